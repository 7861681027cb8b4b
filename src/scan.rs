//! One pass over bytes that a client has chosen.
//!
//! Readers of such bytes look at them through these functions, which count each byte in tests: so a
//! test can hold a reader to work that grows with the length of a text and not with its square.

#[cfg(test)]
pub(crate) mod tests;

/// Notes that so many bytes are looked at.
#[inline(always)]
pub fn step(bytes: usize) {
    #[cfg(test)]
    tests::add(bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

/// Where the first byte is that `is` accepts.
#[inline(always)]
pub fn position(bytes: &[u8], is: impl Fn(u8) -> bool) -> Option<usize> {
    let found = bytes.iter().position(|byte| is(*byte));
    step(found.map_or(bytes.len(), |at| at + 1));
    found
}

/// Whether the byte is among them.
#[inline(always)]
pub fn contains(bytes: &[u8], wanted: u8) -> bool {
    position(bytes, |byte| byte == wanted).is_some()
}

/// Whether the ASCII word is among them, in any case.
pub fn contains_word(bytes: &[u8], word: &[u8]) -> bool {
    let found = bytes.windows(word.len().max(1)).position(|part| part.eq_ignore_ascii_case(word));
    step(found.map_or(bytes.len(), |at| at + word.len()));
    found.is_some()
}

/// Whether all of them are ASCII.
#[inline(always)]
pub fn is_ascii(bytes: &[u8]) -> bool {
    step(bytes.len());
    bytes.is_ascii()
}

/// Whether they begin with others.
#[inline(always)]
pub fn starts_with(bytes: &[u8], beginning: &[u8]) -> bool {
    #[cfg(test)]
    step(1 + bytes.iter().zip(beginning).take_while(|(one, other)| one == other).count());
    bytes.starts_with(beginning)
}
