use super::*;
use proptest::prelude::*;

/// A frame of version 1, which is read for ever.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/frame-v1.cbor");

fn at(ip: [u8; 4], port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip.into(), port)
}

fn head(tunnel: &str) -> Head<'_> {
    Head { capturer: Ipv4Addr::new(127, 70, 1, 2), boot: 1 << 40, tunnel, sequence: 300 }
}

fn write(head: &Head<'_>, datagrams: &[Carried<'_>]) -> Vec<u8> {
    let mut writer = FrameWriter::new(head);
    datagrams.iter().for_each(|carried| writer.push(carried));
    writer.into_vec()
}

#[test]
fn a_frame_is_the_kept_one_byte_for_byte() {
    let long = [7; 300];
    let datagrams = [
        Carried {
            source: at([192, 0, 2, 7], 5000),
            to: at([239, 0, 0, 2], 20005),
            bytes: b"hello",
        },
        Carried { source: at([127, 70, 1, 2], 1), to: at([10, 0, 0, 1], 65535), bytes: b"" },
        Carried { source: at([172, 21, 0, 2], 80), to: at([224, 0, 0, 251], 5353), bytes: &long },
    ];
    let bytes = write(&head("paxos"), &datagrams);
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/frame-v1.cbor");
        assert!(GOLDEN.is_empty(), "it is kept: a change of format needs a new version");
        std::fs::write(path, &bytes).unwrap();
        return;
    }
    assert!(bytes == GOLDEN, "the format of frames has changed: it needs a new version");
    let frame = read_frame(GOLDEN).unwrap();
    assert_eq!((frame.head, frame.datagrams), (head("paxos"), datagrams.to_vec()));
}

#[test]
fn the_largest_datagram_fits_behind_a_frame_that_is_almost_full() {
    let large = vec![1; MAX_DATAGRAM_BYTES];
    let carried = |bytes| Carried { source: at([1, 2, 3, 4], 5), to: at([239, 1, 1, 1], 6), bytes };
    let name = "n".repeat(MAX_NAME_BYTES);
    let head = Head { boot: u64::MAX, sequence: u64::MAX - 5, ..head(&name) };
    let mut writer = FrameWriter::new(&head);
    writer.push(&carried(&large[..FULL_BYTES - 300]));
    assert!(!writer.is_full());
    writer.push(&carried(&large));
    assert!(writer.is_full());
    let bytes = writer.into_vec();
    assert!(bytes.len() <= MAX_FRAME_BYTES);
    assert_eq!(read_frame(&bytes).unwrap().datagrams[1].bytes, large);
}

#[test]
fn bounds_are_kept() {
    let carried = Carried { source: at([1, 2, 3, 4], 5), to: at([239, 1, 1, 1], 6), bytes: b"" };
    let mut writer = FrameWriter::new(&head("t"));
    while !writer.is_full() {
        writer.push(&carried);
    }
    assert_eq!(writer.len(), MAX_FRAME_DATAGRAMS);
    assert_eq!(read_frame(&writer.bytes).unwrap().datagrams.len(), MAX_FRAME_DATAGRAMS);
    writer.push(&carried);
    let many = FrameError::TooMany { bound: MAX_FRAME_DATAGRAMS, of: "datagrams" };
    assert_eq!(read_frame(&writer.bytes), Err(many));

    let name = "n".repeat(MAX_NAME_BYTES + 1);
    let error = read_frame(&write(&head(&name), &[carried])).unwrap_err();
    assert!(matches!(error, FrameError::TooMany { of: "bytes in a name", .. }), "{error}");

    let long = vec![0; MAX_DATAGRAM_BYTES + 1];
    let bytes = write(&head("t"), &[Carried { bytes: &long, ..carried }]);
    assert!(matches!(
        read_frame(&bytes),
        Err(FrameError::TooMany { of: "bytes in a datagram", .. })
    ));

    let error = read_frame(&vec![0; MAX_FRAME_BYTES + 1]).unwrap_err();
    assert!(matches!(error, FrameError::TooMany { of: "bytes", .. }), "{error}");
}

#[test]
fn what_the_grammar_does_not_say_is_refused() {
    let carried = Carried { source: at([1, 2, 3, 4], 5), to: at([239, 1, 1, 1], 6), bytes: b"x" };
    let good = write(&head("t"), &[carried]);
    assert!(read_frame(&good).is_ok());
    // A frame that was cut is none, unless it was cut behind its head: a stream's greeting is only that.
    let greeting = write(&head("t"), &[]);
    assert_eq!(read_frame(&greeting).map(|frame| frame.datagrams), Ok(Vec::new()));
    let cuts = (0..good.len()).filter(|cut| read_frame(&good[..*cut]).is_ok());
    assert_eq!(cuts.collect::<Vec<_>>(), [greeting.len()]);
    assert!(read_frame(&[&good[..], &[0]].concat()).is_err(), "something else follows");
    // The version's number in two bytes: the same number, and other bytes.
    let long = [&good[..1], &[24, 1], &good[2..]].concat();
    assert_eq!(read_frame(&long), Err(FrameError::Malformed(1)));
    let other = [&good[..1], &[2], &good[2..]].concat();
    assert_eq!(read_frame(&other), Err(FrameError::Version(2)));
    let last = Head { sequence: u64::MAX, ..head("t") };
    assert!(read_frame(&write(&last, &[carried])).is_err(), "numbers that run out");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        capturer: u32, boot: u64, sequence in 0..u64::MAX - 20, tunnel in "[a-zé]{1,32}",
        datagrams in prop::collection::vec((any::<[u8; 4]>(), any::<u16>(), any::<[u8; 4]>(), any::<u16>(), any::<Vec<u8>>()), 0..20),
    ) {
        let head = Head { capturer: capturer.into(), boot, tunnel: &tunnel, sequence };
        let datagrams: Vec<_> = datagrams
            .iter()
            .map(|(a, p, b, q, bytes)| Carried { source: at(*a, *p), to: at(*b, *q), bytes })
            .collect();
        let bytes = write(&head, &datagrams);
        let frame = read_frame(&bytes).unwrap();
        prop_assert_eq!(frame, Frame { head, datagrams });
    }

    #[test]
    fn no_bytes_are_too_much(bytes: Vec<u8>) {
        drop(read_frame(&bytes));
    }

    #[test]
    fn a_frame_with_other_bytes_in_it_is_refused_or_reads_as_it_writes(at_ in 0..GOLDEN.len(), byte: u8) {
        let mut bytes = GOLDEN.to_vec();
        bytes[at_] = byte;
        if let Ok(frame) = read_frame(&bytes) {
            prop_assert_eq!(write(&frame.head, &frame.datagrams), bytes);
        }
    }
}
