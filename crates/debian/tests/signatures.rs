//! Clear-signed texts against keyrings that GnuPG made (2026-01-01, keys of ten years, of thirty days and
//! without end; signatures of 2026-01-02).

use debian::{Keyring, PgpError, verify_cleartext};
use std::path::Path;

/// 2026-01-03, 2026-03-01 and 2037-01-01.
const SOON: u64 = 1_767_398_400;
const LATER: u64 = 1_772_323_200;
const AFTER_TEN_YEARS: u64 = 2_114_380_800;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn ring(name: &str) -> Keyring {
    Keyring::parse(&data(name)).unwrap()
}

fn reasons(text: &[u8], ring: &Keyring, now: u64) -> String {
    match verify_cleartext(text, ring, now) {
        Err(PgpError::NoGood(reasons)) => reasons.join("; "),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_supported_kind_is_good() {
    let keys = ring("keyring.gpg");
    for name in
        ["rsa.asc", "ed.asc", "p256.asc", "p384.asc", "short.asc", "sub.asc", "both.asc", "expiring.asc"]
    {
        let good = verify_cleartext(&data(name), &keys, SOON).unwrap_or_else(|e| panic!("{name}: {e}"));
        let want = "Origin: Test\nSuite: stable\nCodename: test\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n\
                    - a dash\n--- more dashes\ntrailing blanks\nFrom here";
        assert_eq!(good.text, want, "{name}");
        assert_eq!(good.signers.len(), 1, "{name}");
    }
}

#[test]
fn armored_keyrings_hold_the_same_keys() {
    let armored = ring("keyring.asc");
    assert_eq!(armored.fingerprints(), ring("keyring.gpg").fingerprints()[..2]);
    assert!(verify_cleartext(&data("ed.asc"), &armored, SOON).is_ok());
    assert!(verify_cleartext(&data("rsa.asc"), &armored, SOON).is_ok());
}

#[test]
fn any_change_of_the_text_is_found() {
    let keys = ring("keyring.gpg");
    for name in ["rsa.asc", "ed.asc", "p256.asc", "p384.asc", "sub.asc"] {
        let text = String::from_utf8(data(name)).unwrap();
        for (from, to) in [
            ("Suite: stable", "Suite: stabIe"),
            ("Codename: test\n", ""),
            ("From here", "From here\nSHA256: x"),
            ("- - a dash", "- a dash"),
            ("\nOrigin", "\n\nOrigin"),
            ("From here\n", "From here\n\n"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            match verify_cleartext(changed.as_bytes(), &keys, SOON) {
                Err(e @ PgpError::Bad { .. }) => assert!(e.hint().is_some()),
                other => panic!("{name} {from}: {other:?}"),
            }
        }
        // Blanks at line ends are not signed, so they may change, but they are never given out.
        let blanks = text.replacen("Suite: stable", "Suite: stable \t", 1);
        assert!(verify_cleartext(blanks.as_bytes(), &keys, SOON).unwrap().text.contains("Suite: stable\n"));
        let crlf = text.replace('\n', "\r\n");
        assert!(verify_cleartext(crlf.as_bytes(), &keys, SOON).is_ok());
    }
}

#[test]
fn nothing_may_stand_around_the_text() {
    let keys = ring("keyring.gpg");
    let text = String::from_utf8(data("ed.asc")).unwrap();
    let changed = [
        format!("SHA256: evil\n{text}"),
        format!("\n{text}"),
        format!("{text}SHA256: evil\n"),
        format!("{text}{text}"),
        text.replacen("Hash: ", "Comment: ", 1),
        text.replacen("Hash: ", "NotDashEscaped: ", 1),
        text.replacen("- --- more", "--- more", 1),
        text.replacen("-----END PGP SIGNATURE-----", "", 1),
        text.replacen("-----BEGIN PGP SIGNATURE-----", "", 1),
        String::new(),
        "<html>log in first</html>".into(),
    ];
    for bad in changed {
        assert!(
            matches!(verify_cleartext(bad.as_bytes(), &keys, SOON), Err(PgpError::Cleartext(_))),
            "{bad}"
        );
    }
}

#[test]
fn only_keys_of_the_keyring_count() {
    assert!(reasons(&data("stranger.asc"), &ring("keyring.gpg"), SOON).contains("not in the keyring"));
    assert!(reasons(&data("ed.asc"), &ring("stranger.gpg"), SOON).contains("not in the keyring"));
    assert!(verify_cleartext(&data("stranger.asc"), &ring("stranger.gpg"), SOON).is_ok());
}

#[test]
fn time_counts() {
    let keys = ring("keyring.gpg");
    assert!(verify_cleartext(&data("short.asc"), &keys, SOON).is_ok());
    assert!(reasons(&data("short.asc"), &keys, LATER).contains("the key is expired"));
    assert!(reasons(&data("expiring.asc"), &keys, LATER).contains("it is expired"));
    assert!(verify_cleartext(&data("ed.asc"), &keys, LATER).is_ok());
    assert!(reasons(&data("ed.asc"), &keys, AFTER_TEN_YEARS).contains("the key is expired"));
    assert!(verify_cleartext(&data("sub.asc"), &keys, AFTER_TEN_YEARS).is_ok());
    assert!(reasons(&data("ed.asc"), &keys, 1_600_000_000).contains("in the future"));
}

#[test]
fn weak_algorithms_and_revoked_keys_do_not_count() {
    let keys = ring("keyring.gpg");
    assert!(reasons(&data("sha1.asc"), &keys, SOON).contains("SHA-1"));
    // 1024 bits are too few even for the key's own signature, so the key is as good as absent.
    assert!(reasons(&data("weak.asc"), &keys, SOON).contains("not in the keyring"));
    let gone = ring("revoked.gpg");
    assert!(reasons(&data("gone.asc"), &gone, SOON).contains("revoked"));
}

#[test]
fn damaged_keyrings_never_panic() {
    let whole = data("keyring.gpg");
    for len in 0..whole.len() {
        let _ = Keyring::parse(&whole[..len]);
    }
    let text = data("rsa.asc");
    for n in 0..whole.len() {
        let mut changed = whole.clone();
        changed[n] ^= 0x41;
        if let Ok(ring) = Keyring::parse(&changed) {
            let _ = verify_cleartext(&text, &ring, SOON);
        }
    }
    assert!(Keyring::parse(b"").is_err());
    assert!(matches!(Keyring::parse(b"\0\0\0\x20\x01\x01\0\x02KBXf....."), Err(PgpError::Keybox)));
}

#[test]
fn a_forged_subkey_does_not_belong() {
    // The signing subkey of one key moved behind another primary key: its binding is not that key's.
    let whole = data("keyring.gpg");
    let body = |at: usize| 3 + usize::from(u16::from_be_bytes([whole[at + 1], whole[at + 2]]));
    // Old-format packets with two-byte lengths: a subkey of version 4, then its binding signature.
    let is = |at: usize, tag: u8| whole.get(at..at + 4).is_some_and(|h| h[0] == tag && h[3] == 4);
    let subkey = (0..whole.len() - 4).find(|n| is(*n, 0xB9) && is(*n + body(*n), 0x89)).unwrap();
    let binding = subkey + body(subkey);
    let mut forged = data("stranger.gpg");
    forged.extend_from_slice(&whole[subkey..binding + body(binding)]);
    let ring = Keyring::parse(&forged).unwrap();
    assert_eq!(ring.fingerprints().len(), 1);
    assert!(reasons(&data("sub.asc"), &ring, SOON).contains("not in the keyring"));
}
