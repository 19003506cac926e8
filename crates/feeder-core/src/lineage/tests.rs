//! What is told of each way in which changes get lost.

use super::*;

fn slot(confirmed: u64) -> SlotInfo {
    SlotInfo {
        plugin: Some("pgoutput".to_owned()),
        database: Some("d".to_owned()),
        active: false,
        active_pid: None,
        two_phase: false,
        temporary: false,
        confirmed_flush: Some(Lsn::new(confirmed)),
        restart: Some(Lsn::new(confirmed)),
        wal_status: Some("reserved".to_owned()),
        invalidation_reason: None,
        failover: false,
        retained_bytes: None,
    }
}

/// Judges a source whose checkpoint is 100 on timeline 2 of system 7.
fn judge(
    system_id: u64,
    timeline: u32,
    end: u64,
    history: &[(u32, u64)],
    slot: Option<&SlotInfo>,
) -> Result<(), String> {
    let history: Vec<TimelineSwitch> = history
        .iter()
        .map(|(timeline, end)| TimelineSwitch {
            timeline: *timeline,
            end: Lsn::new(*end),
        })
        .collect();
    let lineage = Lineage {
        system_id: 7,
        timeline: 2,
        checkpoint: Lsn::new(0x100),
    };
    let identity = SystemIdentity {
        system_id,
        timeline,
        xlog_pos: Lsn::new(end),
        database: None,
    };
    let name = SlotName::parse("duckfeeder_x").unwrap();
    lineage.check(
        &name,
        &Present {
            identity: &identity,
            history: &history,
            slot,
        },
    )
}

fn refusal(judged: Result<(), String>, parts: &[&str]) {
    let message = judged.expect_err("it is refused");
    for part in parts {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_same_source_with_its_slot_at_the_checkpoint_or_behind_is_fine() {
    assert_eq!(judge(7, 2, 0x100, &[], Some(&slot(0x100))), Ok(()));
    assert_eq!(judge(7, 2, 0x200, &[], Some(&slot(0x10))), Ok(()));
}

#[test]
fn what_is_lost_is_named() {
    let at = slot(0x100);
    refusal(
        judge(8, 2, 0x200, &[], Some(&at)),
        &["another server", "0/100"],
    );
    refusal(
        judge(7, 2, 0xFF, &[], Some(&at)),
        &["restored", "from 0/FF to 0/100"],
    );
    refusal(judge(7, 2, 0x200, &[], None), &["is gone", "from 0/100 on"]);
    refusal(
        judge(7, 2, 0x200, &[], Some(&slot(0x101))),
        &["moved", "from 0/100 to 0/101"],
    );
    let lost = SlotInfo {
        wal_status: Some("lost".to_owned()),
        ..at.clone()
    };
    refusal(
        judge(7, 2, 0x200, &[], Some(&lost)),
        &["max_slot_wal_keep_size", "from 0/100 on"],
    );
    let idle = SlotInfo {
        invalidation_reason: Some("idle_timeout".to_owned()),
        ..at
    };
    refusal(
        judge(7, 2, 0x200, &[], Some(&idle)),
        &["idle_replication_slot_timeout"],
    );
}

#[test]
fn another_timeline_is_followed_only_from_the_checkpoint_or_later() {
    let at = slot(0x100);
    let history = [(1, 0x50), (2, 0x100)];
    assert_eq!(judge(7, 3, 0x200, &history, Some(&at)), Ok(()));
    // Two failovers while nobody looked.
    let history = [(1, 0x50), (2, 0x180), (3, 0x190)];
    assert_eq!(judge(7, 4, 0x200, &history, Some(&at)), Ok(()));
    let early = [(1, 0x50), (2, 0xFF)];
    refusal(
        judge(7, 3, 0x200, &early, Some(&at)),
        &["timeline 3", "from 0/FF to 0/100"],
    );
    // A sibling that left timeline 1, and one of which nothing is known.
    refusal(
        judge(7, 3, 0x200, &[(1, 0x50)], Some(&at)),
        &["does not come from"],
    );
    refusal(judge(7, 1, 0x200, &[], Some(&at)), &["does not come from"]);
    refusal(judge(7, 3, 0x200, &history, None), &["is gone"]);
}
