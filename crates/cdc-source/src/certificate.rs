//! The hash that binds SCRAM to a TLS channel: `tls-server-end-point` of RFC 5929, section 4.1.

use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::{Hash, HashAlgorithm};

/// DER contents of the object identifiers of signature algorithms and the hash each implies.
/// MD5 and SHA-1 are replaced by SHA-256, as the RFC demands.
const SIGNATURE_HASHES: &[(&[u8], HashAlgorithm)] = &[
    // md5, sha1, sha256, sha384 WithRSAEncryption (1.2.840.113549.1.1.{4,5,11,12})
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
        HashAlgorithm::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
        HashAlgorithm::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
        HashAlgorithm::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
        HashAlgorithm::SHA384,
    ),
    // ecdsa-with-SHA1 (1.2.840.10045.4.1), -SHA256 and -SHA384 (1.2.840.10045.4.3.{2,3})
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
        HashAlgorithm::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
        HashAlgorithm::SHA256,
    ),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
        HashAlgorithm::SHA384,
    ),
];

const DER_SEQUENCE: u8 = 0x30;
const DER_OBJECT_IDENTIFIER: u8 = 0x06;

/// The channel binding data of a server certificate (DER), or `None` when its signature algorithm
/// implies no hash that we have; the session then goes on without channel binding.
pub(crate) fn tls_server_end_point(
    certificate: &[u8],
    provider: &CryptoProvider,
) -> Option<Vec<u8>> {
    let algorithm = signature_hash(certificate)?;
    let hash = provider.cipher_suites.iter().find_map(|suite| {
        let hash: &dyn Hash = match suite {
            rustls::SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
            rustls::SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        };
        (hash.algorithm() == algorithm).then_some(hash)
    })?;
    Some(hash.hash(certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm
/// OBJECT IDENTIFIER, .. }, signatureValue }` (RFC 5280, section 4.1).
fn signature_hash(certificate: &[u8]) -> Option<HashAlgorithm> {
    let (certificate, _) = element(certificate, DER_SEQUENCE)?;
    let (_, rest) = element(certificate, DER_SEQUENCE)?;
    let (algorithm, _) = element(rest, DER_SEQUENCE)?;
    let (identifier, _) = element(algorithm, DER_OBJECT_IDENTIFIER)?;
    SIGNATURE_HASHES
        .iter()
        .find(|(known, _)| *known == identifier)
        .map(|(_, hash)| *hash)
}

/// Contents of the DER element at the head of `input`, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        (
            bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            rest,
        )
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_elements_are_bounded() {
        assert_eq!(
            element(&[0x30, 2, 1, 2, 3], 0x30),
            Some((&[1, 2][..], &[3][..]))
        );
        assert_eq!(
            element(&[0x30, 0x81, 1, 9], 0x30),
            Some((&[9][..], &[][..]))
        );
        for broken in [
            &[][..],
            &[0x30],
            &[0x30, 3, 1],
            &[0x31, 0],
            &[0x30, 0x80],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(element(broken, 0x30), None, "{broken:?}");
        }
    }
}
