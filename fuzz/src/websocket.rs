//! Fuzz targets for WebSockets: the boundaries of frames, and handshakes.

use tower_passticket::fuzzing::{accepts_answer, track_frames};

use crate::support::header_lines;

/// The first byte of the input is the size of the pieces. The rest of the input is the bytes of one direction of a
/// WebSocket, which arrive in pieces of this size.
pub(crate) fn frames(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let (ends, close) = boundaries(stream);
    let mut at = 0;
    for (piece, (used, is_boundary, has_closed)) in
        stream.chunks(size).zip(track_frames(stream.chunks(size)))
    {
        let to_end = ends.iter().find(|end| **end > at).map_or(usize::MAX, |end| end - at);
        assert_eq!(used, to_end.min(piece.len()), "at {at}");
        at += piece.len();
        assert_eq!(is_boundary, ends.contains(&at), "at {at}");
        assert_eq!(has_closed, close.is_some_and(|close| close <= at), "at {at}");
    }
}

/// Returns the positions of all boundaries between frames, and the end of the first close frame (`None` without one).
fn boundaries(stream: &[u8]) -> (Vec<usize>, Option<usize>) {
    let (mut ends, mut close) = (vec![0], None);
    let mut at = 0;
    while let Some(end) = frame_end(&stream[at..]).filter(|end| *end <= stream.len() - at) {
        if stream[at] % 16 == 8 && close.is_none() {
            close = Some(at + end);
        }
        at += end;
        ends.push(at);
    }
    (ends, close)
}

/// Returns the length of the first frame, if its header is complete.
fn frame_end(frame: &[u8]) -> Option<usize> {
    let second = *frame.get(1)?;
    let (header, length) = match second % 128 {
        126 => (4, u64::from(u16::from_be_bytes(*frame.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*frame.get(2..)?.first_chunk()?)),
        length => (2, u64::from(length)),
    };
    let header = header + if second >= 128 { 4 } else { 0 };
    let end = u64::try_from(header).ok()?.checked_add(length)?;
    usize::try_from(end).ok()
}

/// The input consists of header lines of a handshake, an empty line, and header lines of an answer.
pub(crate) fn handshake(data: &[u8]) {
    let at = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (request, answer) = data.split_at(at);
    let (request, answer) = (header_lines(request), header_lines(answer));
    if accepts_answer(&request, &answer) != Some(true) {
        return;
    }
    assert_eq!(answer.get_all("sec-websocket-accept").iter().count(), 1);
    assert!(answer.get_all("sec-websocket-protocol").iter().count() <= 1);
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        let offered: Vec<_> = request.get_all(name).iter().map(|line| line.as_bytes()).collect();
        for line in answer.get_all(name) {
            for item in line.as_bytes().split(|b| *b == b',') {
                let token = item.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
                let is_offered = token.is_empty()
                    || offered
                        .iter()
                        .any(|line| line.windows(token.len()).any(|part| part == token));
                assert!(is_offered, "{name}: {token:?}");
            }
        }
    }
}
