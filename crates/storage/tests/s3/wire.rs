//! What goes over the wire, seen by a server that understands nothing, and what is refused before.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use bytes::Bytes;
use storage::{S3Options, StorageErrorKind, StoreOptions};

use crate::support::{ACCESS_KEY_ID, SECRET, path};

fn options(endpoint: &str) -> StoreOptions {
    StoreOptions {
        s3: S3Options {
            endpoint: Some(endpoint.to_owned()),
            access_key_id: Some(ACCESS_KEY_ID.to_owned()),
            secret_access_key: Some(SECRET.into()),
            ..S3Options::default()
        },
        ..StoreOptions::default()
    }
}

#[tokio::test]
async fn a_put_is_plain_conditional_and_has_its_checksum_ahead() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n123456789") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        client.write_all(ok).unwrap();
        String::from_utf8(request).unwrap().to_lowercase()
    });
    let store = storage::open("s3://bucket/p", &options(&endpoint)).unwrap();
    let chunks = ["1234", "", "56789"].map(|chunk| Bytes::from_static(chunk.as_bytes()));
    store.put(&path("x"), chunks.to_vec().into()).await.unwrap();
    let request = server.join().unwrap();
    for part in [
        "put /bucket/p/x?x-id=putobject http/1.1\r\n",
        "\r\nif-none-match: *\r\n",
        "\r\ncontent-length: 9\r\n",
        // The check value of CRC-32C, which is of these nine bytes, in lower case.
        "\r\nx-amz-checksum-crc32c: 4wasgw==\r\n",
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
    assert!(!request.contains("chunked"), "{request}");
}

#[test]
fn a_store_shows_where_it_is() {
    let store = storage::open("s3://bucket/p", &options("http://127.0.0.1:1")).unwrap();
    assert_eq!(
        store.to_string(),
        "bucket s3://bucket/p/ (at http://127.0.0.1:1)"
    );
    assert_eq!(store.url(), "s3://bucket/p/");
    let shown = format!("{store:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    let amazon = storage::open("s3://bucket", &StoreOptions::default()).unwrap();
    assert_eq!(amazon.to_string(), "bucket s3://bucket/");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let key = Some(ACCESS_KEY_ID.to_owned());
    let endpoint = |text: &str| S3Options {
        endpoint: Some(text.to_owned()),
        ..S3Options::default()
    };
    for (s3, remedy) in [
        (
            S3Options {
                access_key_id: key,
                ..S3Options::default()
            },
            "storage.secret_access_key",
        ),
        (
            S3Options {
                secret_access_key: Some(SECRET.into()),
                ..S3Options::default()
            },
            "storage.access_key_id",
        ),
        (
            S3Options {
                session_token: Some(SECRET.into()),
                ..S3Options::default()
            },
            "storage.session_token",
        ),
        (endpoint("127.0.0.1:9000"), "storage.endpoint"),
        (
            endpoint(&format!("http://key:{SECRET}@host")),
            "storage.endpoint",
        ),
    ] {
        let options = StoreOptions {
            s3,
            ..StoreOptions::default()
        };
        let error = storage::open("s3://bucket", &options).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::InvalidPath);
        assert!(error.remedy().unwrap().contains(remedy), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
}
