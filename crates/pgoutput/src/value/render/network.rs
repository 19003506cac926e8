//! Network addresses (Postgres documentation, "Network Address Types").

use super::put;
use crate::reader::Cursor;
use crate::value::{ValueError, ValueErrorKind};

/// An `inet`; the length of a mask that covers the whole address is left out.
pub fn inet(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let network = Network::parse(raw).ok_or(ValueError::new("inet", ValueErrorKind::Malformed))?;
    network.address.write(dst);
    if network.bits != network.address.bits() {
        put(dst, format_args!("/{}", network.bits));
    }
    Ok(())
}

/// A `cidr`, always with the length of its mask.
pub fn cidr(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let network = Network::parse(raw).ok_or(ValueError::new("cidr", ValueErrorKind::Malformed))?;
    network.address.write(dst);
    put(dst, format_args!("/{}", network.bits));
    Ok(())
}

/// A `macaddr`.
pub fn macaddr(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    hardware_address::<6>(raw, "macaddr", dst)
}

/// A `macaddr8`.
pub fn macaddr8(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    hardware_address::<8>(raw, "macaddr8", dst)
}

fn hardware_address<const N: usize>(
    raw: &[u8],
    type_name: &'static str,
    dst: &mut String,
) -> Result<(), ValueError> {
    let bytes: [u8; N] = raw
        .try_into()
        .map_err(|_| ValueError::new(type_name, ValueErrorKind::Malformed))?;
    for (position, byte) in bytes.into_iter().enumerate() {
        let colon = if position == 0 { "" } else { ":" };
        put(dst, format_args!("{colon}{byte:02x}"));
    }
    Ok(())
}

enum Address {
    V4([u8; 4]),
    V6([u16; 8]),
}

struct Network {
    address: Address,
    bits: u8,
}

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

impl Network {
    /// Family, length of the mask, whether it is a `cidr`, length of the address, address
    /// (`network_send`).
    fn parse(raw: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(raw);
        let [family, bits, is_cidr, length] = cursor.fixed()?;
        let address = match (family, length) {
            (FAMILY_V4, 4) => Address::V4(cursor.fixed()?),
            (FAMILY_V6, 16) => {
                let mut words = [0; 8];
                for word in &mut words {
                    *word = cursor.u16()?;
                }
                Address::V6(words)
            }
            _ => return None,
        };
        let sound = cursor.is_empty() && is_cidr <= 1 && bits <= address.bits();
        sound.then_some(Self { address, bits })
    }
}

impl Address {
    const fn bits(&self) -> u8 {
        match self {
            Self::V4(_) => 32,
            Self::V6(_) => 128,
        }
    }

    fn write(&self, dst: &mut String) {
        match self {
            Self::V4([a, b, c, d]) => put(dst, format_args!("{a}.{b}.{c}.{d}")),
            Self::V6(words) => write_v6(words, dst),
        }
    }
}

/// As `inet_net_ntop_ipv6` does.
fn write_v6(words: &[u16; 8], dst: &mut String) {
    let (start, length) = longest_zeros(words);
    if let [_, _, _, _, _, mark, high, low] = *words
        && start == 0
        && (length == 6 || (length == 5 && mark == 0xFFFF))
    {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        let mark = if length == 5 { "ffff:" } else { "" };
        put(dst, format_args!("::{mark}{a}.{b}.{c}.{d}"));
        return;
    }
    for (position, word) in words.iter().enumerate() {
        if (start..start + length).contains(&position) {
            if position == start {
                dst.push(':');
            }
            continue;
        }
        if position != 0 {
            dst.push(':');
        }
        put(dst, format_args!("{word:x}"));
    }
    if length > 0 && start + length == words.len() {
        dst.push(':');
    }
}

/// Start and length of the first of the longest runs of zeros of at least two words.
fn longest_zeros(words: &[u16; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut current = 0;
    for (position, word) in words.iter().enumerate() {
        current = if *word == 0 { current + 1 } else { 0 };
        if current >= 2 && current > best.1 {
            best = (position + 1 - current, current);
        }
    }
    best
}
