//! What players, cameras and attackers send, cut as it should be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn all(bytes: &[u8]) -> Result<Vec<Item>, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let (mut decoder, mut items) = (Decoder::default(), Vec::new());
    while let Some(item) = decoder.next(&mut buffer)? {
        items.push(item);
    }
    Ok(items)
}

fn one_request(bytes: &[u8]) -> Request {
    match all(bytes).unwrap().as_slice() {
        [Item::Request(request)] => request.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_read_with_its_body() {
    let request = one_request(
        b"ANNOUNCE rtsp://h/cam RTSP/1.0\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n",
    );

    assert_eq!(request.method, Method::Announce);
    assert_eq!(request.uri, "rtsp://h/cam");
    assert_eq!(request.headers.value("cseq"), Some("2"));
    assert_eq!(request.body, "v=0\n");
}

#[test]
fn sloppy_writing_is_read_all_the_same() {
    let request = one_request(
        b"\r\n\n\r\nsetup  rtsp://h/a b  rtsp/1.0\ncSEQ : 7\nTRANSPORT:RTP/AVP/TCP;\n  interleaved=0-1\nno colon\nX-\xFF: \xE9\n\n",
    );

    assert_eq!(request.method, Method::Setup);
    assert_eq!(request.uri, "rtsp://h/a b");
    assert_eq!(request.headers.value("CSeq"), Some("7"));
    assert_eq!(
        request.headers.value("Transport"),
        Some("RTP/AVP/TCP; interleaved=0-1")
    );
}

#[test]
fn packets_between_messages_are_read() {
    let items =
        all(b"$\x00\x00\x03abc\r\nOPTIONS * RTSP/1.0\r\n\r\n$\x01\x00\x00$\x02\x00\x02x").unwrap();

    let packet = |channel, payload: &'static [u8]| Item::Interleaved {
        channel,
        payload: Bytes::from_static(payload),
    };
    assert_eq!(items.len(), 3, "the last packet is not complete: {items:?}");
    assert_eq!(items[0], packet(0, b"abc"));
    assert!(matches!(&items[1], Item::Request(r) if r.method == Method::Options && r.uri == "*"));
    assert_eq!(items[2], packet(1, b""));
}

#[test]
fn a_response_is_read() {
    let items = all(b"RTSP/1.0 461 Unsupported Transport\r\nCSeq: 3\r\n\r\n").unwrap();

    assert!(
        matches!(&items[..], [Item::Response(response)] if response.status == Status::UNSUPPORTED_TRANSPORT)
    );
}

#[test]
fn what_is_not_rtsp_is_an_error() {
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\n\n",
        "OPTIONS *\r\n\r\n",
        "RTSP/1.0 OK\r\n\r\n",
    ] {
        assert_eq!(all(text.as_bytes()), Err(DecodeError::NotRtsp), "{text:?}");
    }
    assert_eq!(
        all(b"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n"),
        Err(DecodeError::Length)
    );
}

#[test]
fn another_version_is_read_so_that_it_can_be_refused() {
    assert_eq!(one_request(b"OPTIONS * RTSP/2.0\r\n\r\n").version, 2);
}

#[test]
fn a_line_longer_than_the_limit_is_an_error_before_it_ends() {
    let fits = format!(
        "OPTIONS * RTSP/1.0\r\nA: {}\n\n",
        "x".repeat(LINE_BYTES_MAX - 3)
    );
    let too_long = format!("OPTIONS * RTSP/1.0\r\nA: {}", "x".repeat(LINE_BYTES_MAX));

    assert_eq!(all(fits.as_bytes()).unwrap().len(), 1);
    assert_eq!(all(too_long.as_bytes()), Err(DecodeError::Line));
    assert_eq!(
        all(format!("{too_long}\n\n").as_bytes()),
        Err(DecodeError::Line)
    );
}

#[test]
fn more_lines_than_the_limit_are_an_error() {
    let with = |lines| format!("OPTIONS * RTSP/1.0\n{}\n", "a:b\n".repeat(lines));

    assert_eq!(all(with(HEAD_LINES_MAX - 1).as_bytes()).unwrap().len(), 1);
    assert_eq!(
        all(with(HEAD_LINES_MAX).as_bytes()),
        Err(DecodeError::Lines)
    );
}

#[test]
fn a_head_longer_than_the_limit_is_an_error_before_it_ends() {
    let line = format!("a: {}\n", "x".repeat(1_000));
    let head = format!("OPTIONS * RTSP/1.0\n{}", line.repeat(17));

    assert!(head.len() > HEAD_BYTES_MAX);
    assert_eq!(all(head.as_bytes()), Err(DecodeError::Head));
    let endless = format!(
        "OPTIONS * RTSP/1.0\n{}{}",
        line.repeat(15),
        "y".repeat(3_000)
    );
    assert_eq!(all(endless.as_bytes()), Err(DecodeError::Head));
}

#[test]
fn a_body_longer_than_the_limit_is_an_error_before_it_comes() {
    let with = |length| format!("ANNOUNCE rtsp://h/a RTSP/1.0\nContent-Length: {length}\n\n");

    assert_eq!(all(with(BODY_BYTES_MAX).as_bytes()), Ok(vec![]));
    assert_eq!(
        all(with(BODY_BYTES_MAX + 1).as_bytes()),
        Err(DecodeError::Body)
    );
}

#[test]
fn a_line_break_in_a_value_cannot_make_a_header() {
    let response = Response::new(Status::OK).with("Content-Base", "rtsp://h/\r\nSession: 1");

    let bytes = response.encode();

    let items = all(&bytes).unwrap();
    assert!(
        matches!(&items[..], [Item::Response(read)] if read.headers.value("Session").is_none())
    );
}

fn text() -> impl Strategy<Value = String> {
    "[!-9;-~]([ -~]{0,20}[!-~])?"
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        method in 0..10usize,
        uri in "rtsp://[a-z0-9/?=]{1,30}",
        headers in proptest::collection::vec(("[A-Za-z-]{1,12}x", text()), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        chunk in 1..50usize,
    ) {
        let methods = [Method::Options, Method::Describe, Method::Announce, Method::Setup, Method::Play,
            Method::Pause, Method::Record, Method::GetParameter, Method::SetParameter, Method::Teardown];
        let mut request = Request::new(methods[method], uri);
        for (name, value) in headers {
            request = request.with(&name, value);
        }
        request.body = body.into();
        let mut bytes = request.encode().to_vec();
        bytes.extend_from_slice(b"$\x05\x00\x01z");

        let (mut decoder, mut buffer, mut items) = (Decoder::default(), BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(chunk) {
            buffer.extend_from_slice(chunk);
            while let Some(item) = decoder.next(&mut buffer).unwrap() {
                items.push(item);
            }
        }

        prop_assert_eq!(items.len(), 2);
        let Item::Request(read) = &items[0] else { panic!() };
        prop_assert_eq!(&read.uri, &request.uri);
        prop_assert_eq!(&read.body, &request.body);
        let sent: Vec<_> = request.headers.iter().collect();
        let got: Vec<_> = read.headers.iter().filter(|(name, _)| *name != "Content-Length").collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn any_bytes_are_cut_the_same_at_once_and_in_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        chunk in 1..20usize,
    ) {
        let at_once = all(&bytes);
        let (mut decoder, mut buffer, mut items) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut failed = None;
        'all: for chunk in bytes.chunks(chunk) {
            buffer.extend_from_slice(chunk);
            loop {
                match decoder.next(&mut buffer) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) => { failed = Some(error); break 'all; }
                }
            }
        }
        match at_once {
            Ok(all) => prop_assert_eq!((all, None), (items, failed)),
            Err(error) => prop_assert_eq!(Some(error), failed),
        }
    }
}
