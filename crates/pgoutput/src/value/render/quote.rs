//! How values are quoted inside arrays and rows.

/// An element of an array whose type has the delimiter `delimiter`, as `array_out` writes it. The
/// element that is NULL is the word `NULL`, which is not for this function.
pub fn array_element(text: &str, delimiter: u8, dst: &mut String) {
    let special = |byte: u8| {
        byte == delimiter || matches!(byte, b'"' | b'\\' | b'{' | b'}') || is_space(byte)
    };
    let quoted = text.is_empty() || text.eq_ignore_ascii_case("NULL") || text.bytes().any(special);
    if !quoted {
        dst.push_str(text);
        return;
    }
    dst.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            dst.push('\\');
        }
        dst.push(character);
    }
    dst.push('"');
}

/// A field of a row as `record_out` writes it. The field that is NULL is nothing at all.
pub fn record_field(text: &str, dst: &mut String) {
    let special = |byte: u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(byte);
    if !text.is_empty() && !text.bytes().any(special) {
        dst.push_str(text);
        return;
    }
    dst.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            dst.push(character);
        }
        dst.push(character);
    }
    dst.push('"');
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}
