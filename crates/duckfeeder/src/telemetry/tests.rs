use super::*;

#[test]
fn targets_are_matched_by_module() {
    assert!(below("hyper", "hyper"));
    assert!(below("hyper::proto", "hyper"));
    assert!(!below("hyperion", "hyper"));
}

#[test]
fn a_share_is_kept_of_many() {
    assert_eq!(threshold(-0.1), None);
    assert_eq!(threshold(1.1), None);
    assert_eq!(threshold(f64::NAN), None);
    for share in [0.0, 0.01, 0.5, 1.0] {
        let threshold = threshold(share).unwrap();
        let kept = (0..100_000).filter(|number| mix(*number) < threshold);
        let kept = f64::from(u32::try_from(kept.count()).unwrap()) / 100_000.0;
        assert!((kept - share).abs() < 0.01, "{share}: {kept}");
    }
}

#[test]
fn directives_are_checked() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let _entered = runtime.enter();
    let stream = AppendStream::builder()
        .catalog("postgres://f@127.0.0.1:1/x")
        .storage(format!("file://{}", home.path().display()))
        .enabled(false)
        .spawn()
        .unwrap();
    let error = LakeLayer::builder(stream.clone())
        .directives("info,=,x=loud")
        .unwrap_err();
    assert!(error.to_string().contains("directives"), "{error}");
    LakeLayer::builder(stream)
        .sample("x", 2.0)
        .build()
        .unwrap_err();
}
