//! Boxes: a length, a type, content that may be boxes again.
//!
//! ```text
//! size:32 type:32 [size:64, if the first is 1]; size 0: to the end                        ISO 14496-12 4.2
//! full box: the same, then version:8 flags:24
//! ```
//!
//! Not what boxes mean. Called by all files of `mp4`. Invariant: a box lies within its parent; one that does not ends
//! it.

use bytes::Bytes;

/// A box's type.
pub(super) type Kind = [u8; 4];

/// Header of a box at the front of some bytes: bytes of the header, bytes in all (0: to the end), type.
pub(super) fn header(bytes: &[u8]) -> Option<(u64, u64, Kind)> {
    let (&[s0, s1, s2, s3, a, b, c, d], rest) = bytes.split_first_chunk()?;
    let kind = [a, b, c, d];
    match u32::from_be_bytes([s0, s1, s2, s3]) {
        1 => {
            let size = u64::from_be_bytes(*rest.first_chunk()?);
            (size >= 16).then_some((16, size, kind))
        }
        0 => Some((8, 0, kind)),
        size => (size >= 8).then_some((8, size.into(), kind)),
    }
}

/// The boxes in `bytes`, up to the first that is not in order.
pub(super) fn boxes(mut bytes: Bytes) -> impl Iterator<Item = (Kind, Bytes)> {
    std::iter::from_fn(move || {
        let (head, size, kind) = header(&bytes)?;
        let head = usize::try_from(head).ok()?;
        let size = match usize::try_from(size).ok()? {
            0 => bytes.len(),
            size => size,
        };
        if size > bytes.len() {
            return None;
        }
        let whole = bytes.split_to(size);
        Some((kind, whole.slice(head..)))
    })
}

/// The content of the first box of a type.
pub(super) fn child(parent: &Bytes, wanted: &Kind) -> Option<Bytes> {
    boxes(parent.clone())
        .find(|(kind, _)| kind == wanted)
        .map(|(_, content)| content)
}

/// The content at the end of a path of types.
pub(super) fn descend(parent: &Bytes, path: &[&Kind]) -> Option<Bytes> {
    path.iter()
        .try_fold(parent.clone(), |parent, kind| child(&parent, kind))
}

/// Version and flags of a full box, and what follows.
pub(super) fn full(content: &Bytes) -> Option<(u8, u32, Bytes)> {
    let &[version, f0, f1, f2] = content.first_chunk()?;
    Some((
        version,
        u32::from_be_bytes([0, f0, f1, f2]),
        content.slice(4..),
    ))
}

/// The number of 32 bits at a place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_be_bytes(*word))
}

/// The number of 64 bits at a place.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u64::from_be_bytes(*word))
}

/// A box at the end of `out`, its content written by `content`.
pub(super) fn put(out: &mut Vec<u8>, kind: &Kind, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    content(out);
    let size = u32::try_from(out.len() - start).expect("what is written is below 4 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn boxes_of_all_sizes_are_found() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"free", |out| {
            put(out, b"skip", |out| out.push(7))
        });
        bytes.extend([
            0, 0, 0, 1, b'l', b'o', b'n', b'g', 0, 0, 0, 0, 0, 0, 0, 17, 8,
        ]);
        bytes.extend([0, 0, 0, 0, b'r', b'e', b's', b't', 9, 9]);
        let bytes = Bytes::from(bytes);

        let found: Vec<_> = boxes(bytes.clone())
            .map(|(kind, content)| (kind, content.len()))
            .collect();

        assert_eq!(found, [(*b"free", 9), (*b"long", 1), (*b"rest", 2)]);
        let inner = descend(&bytes, &[b"free", b"skip"]);
        assert_eq!(inner.as_deref(), Some(&[7][..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), 0_u8..20, any::<u8>()], 0..80),
        ) {
            let total: usize = boxes(Bytes::from(bytes.clone())).map(|(_, content)| content.len() + 8).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
