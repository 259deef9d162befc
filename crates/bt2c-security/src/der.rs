//! Just enough DER to hold a public key to its one encoding (X.690, section 10).

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The content of the first element, which must bear this tag, and what follows it.
pub(crate) fn first(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81 => {
            let (&[len], rest) = rest.split_first_chunk()?;
            // Shorter lengths have a shorter form, and DER allows only that.
            (Some(usize::from(len)).filter(|&len| len >= 0x80)?, rest)
        }
        0x82 => {
            let (&len, rest) = rest.split_first_chunk()?;
            (Some(usize::from(u16::from_be_bytes(len))).filter(|&len| len >= 0x100)?, rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(len)
}

/// The content of the one element that is the whole input.
pub(crate) fn only(tag: u8, input: &[u8]) -> Option<&[u8]> {
    first(tag, input).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_split_by_their_length() {
        assert_eq!(first(INTEGER, &[2, 1, 7, 9]), Some((&[7][..], &[9][..])));
        assert_eq!(only(INTEGER, &[2, 1, 7]), Some(&[7][..]));
        assert_eq!(only(INTEGER, &[2, 1, 7, 9]), None);
        assert_eq!(first(SEQUENCE, &[2, 1, 7]), None);
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[5; 256]].concat();
        assert_eq!(only(SEQUENCE, &long), Some(&[5; 256][..]));
        let medium = [&[0x30, 0x81, 0x80][..], &[5; 128]].concat();
        assert_eq!(only(SEQUENCE, &medium), Some(&[5; 128][..]));
    }

    #[test]
    fn longer_forms_of_a_length_and_truncation_are_refused() {
        for bytes in [
            &[][..],
            &[2],
            &[2, 2, 1],
            &[2, 0x80, 0, 0],
            &[2, 0x81, 1, 7],
            &[2, 0x82, 0, 1, 7],
            &[2, 0x83, 0, 0, 1, 7],
            &[2, 0x81],
            &[2, 0x82, 1],
        ] {
            assert_eq!(first(INTEGER, bytes), None, "{bytes:?}");
        }
    }
}
