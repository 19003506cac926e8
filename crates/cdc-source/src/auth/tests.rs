use rustls::crypto::hash::Hash;

use crate::connection::{Connection, SessionKind};
use crate::error::{SourceError, SourceErrorKind};
use crate::scripted::{self, Server, auth, error};

const URL: &str = "postgres://feeder:pencil@db/shop";
const BINDING: &[u8] = b"hash of a certificate";

/// Runs startup against a server that does what `script` says until AuthenticationOk.
async fn exchange<F, R>(
    url: &'static str,
    size: usize,
    binding: Option<&[u8]>,
    script: F,
) -> Result<Connection, SourceError>
where
    F: FnOnce(Server) -> R + Send + 'static,
    R: Future<Output = Option<Server>> + Send + 'static,
{
    let (dialled, mut server) = scripted::pipe(size, binding.map(<[u8]>::to_vec));
    let task = tokio::spawn(async move {
        server.startup().await;
        if let Some(mut server) = script(server).await {
            server.welcome().await;
        }
    });
    let result = scripted::open(url, dialled, SessionKind::Sql).await;
    task.await.unwrap();
    result
}

async fn password(server: &mut Server) -> String {
    let (tag, body) = server.receive().await;
    assert_eq!(tag, b'p');
    String::from_utf8(body.strip_suffix(&[0]).unwrap().into()).unwrap()
}

#[tokio::test]
async fn cleartext() {
    exchange(URL, 1, None, async |mut server| {
        server.send(&auth(3, b"")).await;
        assert_eq!(password(&mut server).await, "pencil");
        server.send(&auth(0, b"")).await;
        Some(server)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn md5() {
    exchange(
        "postgres://md5_user:password@db/shop",
        1,
        None,
        async |mut server| {
            server.send(&auth(5, &[0x2a, 0x3d, 0x8f, 0xe0])).await;
            assert_eq!(
                password(&mut server).await,
                "md562af4dd09bbb41884907a838a3233294"
            );
            server.send(&auth(0, b"")).await;
            Some(server)
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn scram() {
    exchange(URL, 1, None, async |mut server| {
        assert_eq!(
            scram_server(&mut server, "pencil", b"SCRAM-SHA-256\0\0", Cheat::No).await,
            "n,,"
        );
        Some(server)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn scram_is_bound_to_the_channel_when_the_server_offers_it() {
    const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    for url in [
        URL,
        "postgres://feeder:pencil@db/shop?channel_binding=require",
    ] {
        exchange(url, 64, Some(BINDING), async |mut server| {
            let header = scram_server(&mut server, "pencil", BOTH, Cheat::No).await;
            assert_eq!(header, "p=tls-server-end-point,,");
            Some(server)
        })
        .await
        .unwrap();
    }
    exchange(
        "postgres://feeder:pencil@db/shop?channel_binding=disable",
        64,
        Some(BINDING),
        async |mut server| {
            assert_eq!(
                scram_server(&mut server, "pencil", BOTH, Cheat::No).await,
                "n,,"
            );
            Some(server)
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn an_offer_that_was_taken_away_shows() {
    exchange(URL, 64, Some(BINDING), async |mut server| {
        let header = scram_server(&mut server, "pencil", b"SCRAM-SHA-256\0\0", Cheat::No).await;
        assert_eq!(header, "y,,");
        Some(server)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_refused() {
    for cheat in [Cheat::WrongSignature, Cheat::NoSignature] {
        let error = exchange(URL, 64, None, async move |mut server| {
            scram_server(&mut server, "pencil", b"SCRAM-SHA-256\0\0", cheat).await;
            None
        })
        .await
        .unwrap_err();
        let expected = match cheat {
            Cheat::WrongSignature => SourceErrorKind::Auth,
            Cheat::No | Cheat::NoSignature => SourceErrorKind::Protocol,
        };
        assert_eq!(error.kind(), expected, "{error}");
    }
}

#[tokio::test]
async fn required_binding_takes_nothing_less() {
    const REQUIRE: &str = "postgres://feeder:pencil@db/shop?channel_binding=require";
    let trusted = exchange(REQUIRE, 64, Some(BINDING), async |mut server| {
        server.send(&auth(0, b"")).await;
        None
    });
    let cleartext = exchange(REQUIRE, 64, Some(BINDING), async |mut server| {
        server.send(&auth(3, b"")).await;
        server.receive().await;
        server.send(&auth(0, b"")).await;
        None
    });
    let unbound = exchange(REQUIRE, 64, None, async |mut server| {
        server.send(&auth(10, b"SCRAM-SHA-256\0\0")).await;
        None
    });
    for error in [trusted.await, cleartext.await, unbound.await] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Auth);
        assert!(!error.is_transient());
        assert!(error.to_string().contains("channel binding"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_permanent_and_has_a_remedy() {
    let error = exchange(URL, 64, None, async |mut server| {
        server.send(&auth(3, b"")).await;
        server.receive().await;
        server
            .send(&error(
                "28P01",
                "password authentication failed for user \"feeder\"",
            ))
            .await;
        None
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Auth);
    assert!(!error.is_transient());
    assert!(error.remedy().unwrap().contains("password"));
    assert!(!format!("{error} {error:?}").contains("pencil"));
}

#[tokio::test]
async fn a_missing_password_is_said_so() {
    let error = exchange(
        "postgres://feeder@nowhere.invalid/shop",
        64,
        None,
        async |mut server| {
            server.send(&auth(3, b"")).await;
            None
        },
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Auth);
    assert!(error.to_string().contains("none is given"), "{error}");
}

#[tokio::test]
async fn other_methods_are_named() {
    for code in [2_u32, 6, 7, 9] {
        let error = exchange(URL, 64, None, async move |mut server| {
            server.send(&auth(code, b"")).await;
            None
        })
        .await
        .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Auth);
        assert!(error.remedy().is_some());
    }
    let error = exchange(URL, 64, None, async |mut server| {
        server.send(&auth(10, b"OAUTHBEARER\0\0")).await;
        None
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("SASL"), "{error}");
}

#[tokio::test]
async fn a_pooler_that_knows_no_replication_is_recognised() {
    let error = exchange(URL, 64, None, async |mut server| {
        server
            .send(&error(
                "08P01",
                "unsupported startup parameter: replication",
            ))
            .await;
        None
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unsupported);
    assert!(!error.is_transient());
    assert!(error.remedy().unwrap().contains("pooler"));
}

#[derive(Clone, Copy, PartialEq)]
enum Cheat {
    No,
    WrongSignature,
    NoSignature,
}

/// The server's side of SCRAM (RFC 5802), checking the client's proof. Returns the GS2 header.
async fn scram_server(
    server: &mut Server,
    password: &str,
    mechanisms: &[u8],
    cheat: Cheat,
) -> String {
    server.send(&auth(10, mechanisms)).await;
    let (tag, body) = server.receive().await;
    assert_eq!(tag, b'p');
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let mechanism = std::str::from_utf8(&body[..end]).unwrap();
    let first = std::str::from_utf8(&body[end + 5..]).unwrap();
    let bare_at = first.find("n=,r=").unwrap();
    let (header, bare) = first.split_at(bare_at);
    assert_eq!(header.starts_with("p="), mechanism == "SCRAM-SHA-256-PLUS");

    let nonce = format!("{}server", bare.strip_prefix("n=,r=").unwrap());
    let salt = b"0123456789abcdef";
    let server_first = format!("r={nonce},s={},i=64", base64(salt));
    server.send(&auth(11, server_first.as_bytes())).await;

    let (_, body) = server.receive().await;
    let last = String::from_utf8(body).unwrap();
    let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
    let mut binding = header.as_bytes().to_vec();
    if mechanism == "SCRAM-SHA-256-PLUS" {
        binding.extend_from_slice(BINDING);
    }
    assert_eq!(without_proof, format!("c={},r={nonce}", base64(&binding)));

    let message = format!("{bare},{server_first},{without_proof}");
    let mut salted = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let mut round = salted.clone();
    for _ in 1..64 {
        round = hmac(password.as_bytes(), &round);
        xor(&mut salted, &round);
    }
    let client_key = hmac(&salted, b"Client Key");
    let mut expected = hmac(&sha256(&client_key), message.as_bytes());
    xor(&mut expected, &client_key);
    assert_eq!(
        proof,
        base64(&expected),
        "the client does not know the password"
    );

    let mut signature = hmac(&hmac(&salted, b"Server Key"), message.as_bytes());
    if cheat == Cheat::WrongSignature {
        signature[0] ^= 1;
    }
    if cheat != Cheat::NoSignature {
        server
            .send(&auth(12, format!("v={}", base64(&signature)).as_bytes()))
            .await;
    }
    if cheat != Cheat::WrongSignature {
        server.send(&auth(0, b"")).await;
    }
    header.to_owned()
}

fn sha256(data: &[u8]) -> Vec<u8> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let hash: &dyn Hash = provider
        .cipher_suites
        .iter()
        .filter_map(rustls::SupportedCipherSuite::tls13)
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.output_len() == 32)
        .unwrap();
    hash.hash(data).as_ref().to_vec()
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = key.to_vec();
    assert!(block.len() <= 64);
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = sha256(&[&pad(0x36)[..], data].concat());
    sha256(&[&pad(0x5c)[..], &inner].concat())
}

fn xor(left: &mut [u8], right: &[u8]) {
    left.iter_mut()
        .zip(right)
        .for_each(|(left, right)| *left ^= right);
}

fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in data.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                let index = usize::try_from(group >> (18 - 6 * place) & 63).unwrap();
                text.push(char::from(ALPHABET[index]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
