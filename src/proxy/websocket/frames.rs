//! The boundaries of WebSocket frames in a stream of bytes, and the frame that closes a WebSocket (RFC 6455 §5).
//!
//! A tunnel forwards frames without changing them. The gateway must know where a frame ends, because it may send its
//! own close frame only between two frames. So [`FrameTracker`] reads the headers of frames, and skips the payloads.

/// The opcode of the frame that closes a WebSocket (RFC 6455 §5.2).
const CLOSE: u8 = 0x8;

/// The position in a stream of frames. This type accepts any sequence of bytes. It does not check the rules that matter
/// only to the client and the service, such as the meaning of the reserved bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrameTracker {
    at: At,
    /// The opcode of the current frame. It has no meaning between two frames.
    opcode: u8,
    has_closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Boundary,
    /// The next byte contains the mask bit and the length of 7 bits.
    Length,
    /// `left` bytes of the extended length follow.
    ExtendedLength { left: u8, length: u64, is_masked: bool },
    /// `left` bytes of the masking key follow.
    Mask { left: u8, length: u64 },
    /// `left` bytes of the payload follow.
    Payload { left: u64 },
}

impl FrameTracker {
    pub(super) fn is_at_boundary(&self) -> bool {
        self.at == At::Boundary
    }

    /// Returns whether the stream has contained a complete close frame. The sender must send no more frames after it
    /// (RFC 6455 §5.5.1).
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.advance_to_boundary(bytes);
            bytes = &bytes[used..];
        }
    }

    /// Moves the position to the end of the current frame, or past all `bytes` if they end earlier. If the position is
    /// between two frames, `bytes` begin with the next frame, and the position moves to the end of that frame. Returns
    /// the number of bytes that belong to the frame.
    pub(super) fn advance_to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            if let At::Payload { left } = self.at {
                let available = bytes.len() - used;
                // The minimum fits into a `usize`, because `available` is a `usize`.
                let skipped = usize::try_from(left).map_or(available, |left| left.min(available));
                used += skipped;
                self.enter_payload(left - skipped as u64);
            } else {
                self.read_header(bytes[used]);
                used += 1;
            }
            if self.is_at_boundary() {
                break;
            }
        }
        used
    }

    fn read_header(&mut self, byte: u8) {
        match self.at {
            At::Boundary | At::Payload { .. } => {
                self.opcode = byte & 0x0f;
                self.at = At::Length;
            }
            At::Length => {
                let is_masked = byte & 0x80 != 0;
                match byte & 0x7f {
                    126 => self.at = At::ExtendedLength { left: 2, length: 0, is_masked },
                    127 => self.at = At::ExtendedLength { left: 8, length: 0, is_masked },
                    length => self.enter_mask(length.into(), is_masked),
                }
            }
            At::ExtendedLength { left, length, is_masked } => {
                let length = length << 8 | u64::from(byte);
                match left {
                    1 => self.enter_mask(length, is_masked),
                    _ => self.at = At::ExtendedLength { left: left - 1, length, is_masked },
                }
            }
            At::Mask { left: 1, length } => self.enter_payload(length),
            At::Mask { left, length } => self.at = At::Mask { left: left - 1, length },
        }
    }

    fn enter_mask(&mut self, length: u64, is_masked: bool) {
        match is_masked {
            true => self.at = At::Mask { left: 4, length },
            false => self.enter_payload(length),
        }
    }

    fn enter_payload(&mut self, left: u64) {
        if left > 0 {
            self.at = At::Payload { left };
            return;
        }
        self.has_closed |= self.opcode == CLOSE;
        self.at = At::Boundary;
    }
}

/// Tracks the frames in `pieces`. Returns for each piece: the number of bytes up to the first boundary, whether the end
/// of the piece is a boundary, and whether there was a close frame.
#[cfg(feature = "fuzzing")]
pub fn track_frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(usize, bool, bool)> {
    let mut tracker = FrameTracker::default();
    let track = |piece| {
        let mut copy = tracker;
        let used = copy.advance_to_boundary(piece);
        tracker.advance(piece);
        (used, tracker.is_at_boundary(), tracker.has_closed())
    };
    pieces.into_iter().map(track).collect()
}

/// The reason why the gateway closes a WebSocket (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// 1001: the gateway stops or no longer learns which tokens are revoked, or the WebSocket was idle for too long.
    GoingAway = 1001,
    /// 1008: the credential of the client is no longer valid.
    PolicyViolation = 1008,
}

/// Makes the close frame. `mask` is the masking key. A frame to a service must have a mask. A frame to a client must
/// not have a mask (RFC 6455 §5.1). `reason` must have at most 123 bytes.
pub(super) fn close_frame(code: CloseCode, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = (code as u16).to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    debug_assert!(payload.len() <= 125, "the payload of a control frame has at most 125 bytes");
    // The payload is short, so its length fits into 7 bits.
    let length = payload.len() as u8;
    let mut frame = vec![0x80 | CLOSE];
    match mask {
        None => frame.push(length),
        Some(mask) => {
            frame.push(0x80 | length);
            frame.extend_from_slice(&mask);
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, mask: Option<[u8; 4]>, length: usize) -> Vec<u8> {
        let mask_bit = if mask.is_some() { 0x80 } else { 0 };
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(mask_bit | length as u8),
            126..=0xffff => {
                frame.push(mask_bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        frame.resize(frame.len() + length, 0);
        frame
    }

    #[test]
    fn a_frame_ends_after_its_payload() {
        let mask = Some([0x88, 0x80, 0xff, 0x7f]);
        let cases = [
            ("empty text", frame(0x81, None, 0), false),
            ("masked empty ping", frame(0x89, mask, 0), false),
            ("longest 7-bit length", frame(0x82, None, 125), false),
            ("shortest 16-bit length", frame(0x82, mask, 126), false),
            ("longest 16-bit length", frame(0x82, None, 0xffff), false),
            ("shortest 64-bit length", frame(0x82, mask, 0x1_0000), false),
            ("compressed fragment", frame(0x41, None, 300), false),
            ("continuation", frame(0x00, mask, 7), false),
            ("close without a code", frame(0x88, None, 0), true),
            ("masked close", frame(0x88, mask, 2), true),
        ];
        for (name, bytes, closes) in cases {
            let mut tracker = FrameTracker::default();
            assert!(tracker.is_at_boundary());
            for byte in &bytes[..bytes.len() - 1] {
                tracker.advance(&[*byte]);
                assert!(!tracker.is_at_boundary() && !tracker.has_closed(), "{name}");
            }
            tracker.advance(&bytes[bytes.len() - 1..]);
            assert!(tracker.is_at_boundary(), "{name}");
            assert_eq!(tracker.has_closed(), closes, "{name}");
            let twice = [bytes.as_slice(), &bytes].concat();
            assert_eq!(FrameTracker::default().advance_to_boundary(&twice), bytes.len(), "{name}");
        }
    }

    #[test]
    fn the_longest_length_does_not_overflow() {
        let mut tracker = FrameTracker::default();
        tracker.advance(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert_eq!(tracker.at, At::Payload { left: u64::MAX - 3 });
    }

    #[test]
    fn a_close_frame_has_code_and_reason_and_a_mask_towards_a_service() {
        let plain = close_frame(CloseCode::PolicyViolation, "bye", None);
        assert_eq!(plain, [0x88, 5, 0x03, 0xf0, b'b', b'y', b'e']);
        let mask = [1, 2, 3, 4];
        let masked = close_frame(CloseCode::GoingAway, "bye", Some(mask));
        assert_eq!(masked[..6], [0x88, 0x85, 1, 2, 3, 4]);
        let payload: Vec<_> =
            masked[6..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        assert_eq!(payload, [0x03, 0xe9, b'b', b'y', b'e']);
        for frame in [plain, masked] {
            let mut tracker = FrameTracker::default();
            tracker.advance(&frame);
            assert!(tracker.is_at_boundary() && tracker.has_closed());
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0_usize..200, Just(65_535_usize), Just(65_536_usize)];
        (any::<u8>(), any::<Option<[u8; 4]>>(), length)
            .prop_map(|(first, mask, length)| frame(first, mask, length))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn boundaries_do_not_depend_on_how_the_bytes_are_split(
            frames in prop::collection::vec(any_frame(), 1..8),
            sizes in prop::collection::vec(1_usize..3000, 1..20),
        ) {
            let stream = frames.concat();
            let mut ends = vec![0];
            ends.extend(frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }));
            let (mut tracker, mut at) = (FrameTracker::default(), 0);
            for size in sizes.iter().cycle() {
                if at == stream.len() {
                    break;
                }
                let piece = &stream[at..(at + size).min(stream.len())];
                let mut copy = tracker;
                let used = copy.advance_to_boundary(piece);
                let next_end = ends.iter().copied().find(|end| *end > at).unwrap();
                prop_assert_eq!(used, piece.len().min(next_end - at));
                tracker.advance(piece);
                at += piece.len();
                prop_assert_eq!(tracker.is_at_boundary(), ends.contains(&at));
                let closed = frames.iter().zip(&ends[1..]).any(|(frame, end)| *end <= at && frame[0] & 0xf == CLOSE);
                prop_assert_eq!(tracker.has_closed(), closed);
            }
        }

        #[test]
        fn any_bytes_are_accepted(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
            let mut whole = FrameTracker::default();
            whole.advance(&bytes);
            let mut split = FrameTracker::default();
            let (before, after) = bytes.split_at(at.min(bytes.len()));
            split.advance(before);
            split.advance(after);
            prop_assert_eq!(whole, split);
        }
    }
}
