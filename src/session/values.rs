//! The values in a `Bind` message, where the proxy has to know them.

use crate::protocol::frame::split_cstr;
use crate::scan;

/// How many formats of results the body of a `Bind` names: none or one is for all columns, however
/// many there are. `None`: malformed.
pub(super) fn formats_of_results(body: &[u8]) -> Option<i16> {
    let behind = *Values::read(body)?.starts.last()?;
    let count = body.get(behind..)?.first_chunk::<2>()?;
    Some(i16::from_be_bytes(*count))
}

/// The values of a `Bind` message, which has names, formats, values and formats of results.
pub(super) struct Values<'a> {
    formats: Vec<i16>,
    values: Vec<Option<&'a [u8]>>,
    /// Where each value's length stands, and behind the last one.
    pub(super) starts: Vec<usize>,
}

impl<'a> Values<'a> {
    /// Reads the body of a `Bind`. `None`: malformed.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let (_, rest) = split_cstr(body)?;
        let (_, mut rest) = split_cstr(rest)?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<2>()?;
            rest = after;
            Some(i16::from_be_bytes(*number))
        };
        let formats: Vec<i16> = (0..number()?).map(|_| number()).collect::<Option<_>>()?;
        let count = number()?;
        let (mut values, mut starts) = (Vec::new(), Vec::new());
        for _ in 0..count {
            scan::step(1);
            starts.push(body.len() - rest.len());
            let (length, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            values.push(match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length)?;
                    rest = after;
                    Some(value)
                }
                Err(_) => None,
            });
        }
        starts.push(body.len() - rest.len());
        Some(Self { formats, values, starts })
    }

    /// A value as text. Binary text is the same; of a UUID and a truth value binary is known.
    pub(super) fn text(&self, number: usize) -> Option<String> {
        let index = number.checked_sub(1)?;
        let value = (*self.values.get(index)?)?;
        let format = match self.formats.as_slice() {
            [] => 0,
            [one] => *one,
            several => *several.get(index)?,
        };
        match (format, value) {
            (1, [byte @ (0 | 1)]) => Some(byte.to_string()),
            (1, bytes) if bytes.len() == 16 => {
                Some(uuid::Uuid::from_slice(bytes).ok()?.hyphenated().to_string())
            }
            (0 | 1, bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
            _ => None,
        }
    }
}
