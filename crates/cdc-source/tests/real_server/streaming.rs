use std::time::Duration;

use cdc_source::publication::{self, WantedPublication};
use cdc_source::{
    Connection, PublicationName, PublishActions, PublishedTable, ReplicationStream, SessionKind,
    SlotName, SourceErrorKind, StreamOptions, slot,
};
use pgoutput::{Decoder, Lsn, Message, ProtocolVersion, ReplicationFrame};

use crate::cluster::{Cluster, servers};

const OPTIONS: StreamOptions = StreamOptions {
    binary: true,
    messages: true,
    protocol: ProtocolVersion::V1,
};

fn name() -> SlotName {
    SlotName::parse("feeder").unwrap()
}

pub(crate) fn publication() -> PublicationName {
    PublicationName::parse("it's \"our\" feeder").unwrap()
}

pub(crate) fn table(name: &str) -> PublishedTable {
    PublishedTable {
        schema: "public".into(),
        name: name.into(),
        columns: None,
        row_filter: None,
    }
}

pub(crate) async fn publish(connection: &mut Connection, tables: &[&str]) {
    let wanted = WantedPublication {
        name: publication(),
        actions: PublishActions::All,
        via_root: true,
        generated: false,
        tables: tables.iter().map(|name| table(name)).collect(),
    };
    publication::create(connection, &wanted).await.unwrap();
}

/// The next logical message and where it stands; fails when none comes for a while.
async fn message(stream: &mut ReplicationStream, decoder: &mut Decoder) -> Message {
    loop {
        let frame = tokio::time::timeout(Duration::from_mins(1), stream.next_frame());
        match frame
            .await
            .expect("nothing came")
            .unwrap()
            .expect("the stream ended")
        {
            ReplicationFrame::XLogData(data) => return decoder.decode(data.payload).unwrap(),
            ReplicationFrame::PrimaryKeepalive(_) => {}
        }
    }
}

/// The rows of the next transaction, and the end of its commit.
async fn transaction(stream: &mut ReplicationStream, decoder: &mut Decoder) -> (usize, Lsn) {
    let mut rows = 0;
    loop {
        match message(stream, decoder).await {
            Message::Insert(_) => rows += 1,
            Message::Commit(commit) => return (rows, commit.end_lsn),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_slot_streams_what_comes_after_it() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute("create table public.t (id int primary key, v text)")
            .await
            .unwrap();
        sql.execute("insert into public.t select i, 'old' from generate_series(1, 10) i")
            .await
            .unwrap();
        publish(&mut sql, &["t"]).await;

        let mut connection = cluster.connect("postgres", SessionKind::Replication).await;
        let identity = connection.identify_system().await.unwrap();
        assert_eq!(
            (identity.timeline, identity.database.as_deref()),
            (1, Some("postgres"))
        );
        let control = sql
            .query("select system_identifier as id from pg_control_system()")
            .await;
        assert_eq!(
            control.unwrap()[0].parse::<u64>("id").unwrap(),
            identity.system_id
        );

        assert_eq!(slot::inspect(&mut sql, &name()).await.unwrap(), None);
        let created = connection.create_slot(&name(), false).await.unwrap();
        assert!(created.consistent_point >= identity.xlog_pos);
        assert!(!created.snapshot.is_empty());
        let info = slot::inspect(&mut sql, &name()).await.unwrap().unwrap();
        assert_eq!(info.plugin.as_deref(), Some("pgoutput"));
        assert_eq!(info.database.as_deref(), Some("postgres"));
        assert_eq!(info.confirmed_flush, Some(created.consistent_point));
        assert!(info.restart.unwrap() <= created.consistent_point);
        assert_eq!(info.wal_status.as_deref(), Some("reserved"));
        assert_eq!(info.invalidation_reason, None);
        assert!(info.retained_bytes.unwrap() < 1 << 30);
        assert!(!info.active && !info.two_phase && !info.temporary && !info.failover);

        sql.execute("insert into public.t select i, 'new' from generate_series(11, 15) i")
            .await
            .unwrap();
        let mut stream = connection
            .start_replication(&name(), created.consistent_point, &[publication()], OPTIONS)
            .await
            .unwrap();
        let mut decoder = Decoder::new(OPTIONS.protocol);
        let (rows, end) = transaction(&mut stream, &mut decoder).await;
        assert_eq!(
            rows, 5,
            "the rows from before the slot are not in the stream"
        );

        // What we acknowledge is what the server knows, thrice.
        stream.send_status(end, true).await.unwrap();
        loop {
            let frame = tokio::time::timeout(Duration::from_mins(1), stream.next_frame());
            let frame = frame
                .await
                .expect("no answer to the status update")
                .unwrap();
            if matches!(frame, Some(ReplicationFrame::PrimaryKeepalive(_))) {
                let rows = sql
                    .query("select write_lsn, flush_lsn, replay_lsn from pg_stat_replication")
                    .await
                    .unwrap();
                let all = ["write_lsn", "flush_lsn", "replay_lsn"]
                    .map(|column| rows[0].parse_opt::<Lsn>(column).unwrap());
                if all == [Some(end); 3] {
                    break;
                }
            }
        }
        let info = slot::inspect(&mut sql, &name()).await.unwrap().unwrap();
        assert_eq!(info.confirmed_flush, Some(end));
        assert!(info.active && info.active_pid.is_some());

        // The slot takes one reader.
        let second = cluster.connect("postgres", SessionKind::Replication).await;
        let error = second
            .start_replication(&name(), end, &[publication()], OPTIONS)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::SlotInUse);
        let error = slot::drop(&mut sql, &name()).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::SlotInUse);

        // Stopped in good order, the connection goes on, but does not stream again.
        let mut connection = stream.stop().await.unwrap();
        let info = slot::inspect(&mut connection, &name())
            .await
            .unwrap()
            .unwrap();
        assert!(!info.active);
        let again = connection
            .start_replication(&name(), end, &[publication()], OPTIONS)
            .await;
        assert_eq!(again.unwrap_err().kind(), SourceErrorKind::Unusable);

        sql.execute("insert into public.t values (16, 'more')")
            .await
            .unwrap();
        let connection = cluster.connect("postgres", SessionKind::Replication).await;
        let mut stream = connection
            .start_replication(&name(), end, &[publication()], OPTIONS)
            .await
            .unwrap();
        let mut decoder = Decoder::new(OPTIONS.protocol);
        let (rows, _) = transaction(&mut stream, &mut decoder).await;
        assert_eq!(rows, 1, "the acknowledged transaction is not sent again");

        // A takeover ends the session of the one before.
        let pid = slot::inspect(&mut sql, &name())
            .await
            .unwrap()
            .unwrap()
            .active_pid
            .unwrap();
        assert!(slot::terminate_walsender(&mut sql, pid).await.unwrap());
        let error = loop {
            match stream.next_frame().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a terminated stream did not end in good order"),
                Err(error) => break error,
            }
        };
        assert!(error.is_transient(), "{error}");
        assert!(
            !slot::terminate_walsender(&mut sql, 1).await.unwrap(),
            "no walsender, no harm"
        );
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_the_stream_in_good_order() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        publish(&mut sql, &[]).await;
        let mut connection = cluster.connect("postgres", SessionKind::Replication).await;
        let created = connection.create_slot(&name(), true).await.unwrap();
        let mut stream = connection
            .start_replication(&name(), created.consistent_point, &[publication()], OPTIONS)
            .await
            .unwrap();
        // A walsender that has just begun is ended like any other backend.
        let streaming = async {
            let state = "select state from pg_catalog.pg_stat_replication";
            while sql
                .query(state)
                .await
                .unwrap()
                .first()
                .and_then(|row| row.get(0))
                != Some("streaming")
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), streaming)
            .await
            .expect("the walsender does not stream");
        sql.close().await;
        cluster.stop_fast();
        let mut received = Lsn::ZERO;
        loop {
            let frame = tokio::time::timeout(Duration::from_mins(1), stream.next_frame());
            match frame.await.expect("the stream did not end").unwrap() {
                Some(ReplicationFrame::PrimaryKeepalive(keepalive)) => {
                    received = received.max(keepalive.wal_end);
                }
                Some(ReplicationFrame::XLogData(data)) => received = received.max(data.wal_end),
                None => break,
            }
            // The server waits until everything is acknowledged.
            stream.send_status(received, false).await.unwrap();
        }
    }
}

#[tokio::test]
async fn refusals_around_slots_are_named() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &["max_replication_slots=1"]).await;
        let mut connection = cluster.connect("postgres", SessionKind::Replication).await;
        let other = SlotName::parse("other").unwrap();
        let error = slot::drop(&mut connection, &name()).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::ObjectMissing);
        connection.create_slot(&name(), false).await.unwrap();
        let error = connection.create_slot(&name(), false).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::AlreadyExists);
        assert_eq!(error.object(), Some("slot \"feeder\""));
        let error = connection.create_slot(&other, true).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::ServerLimit);
        assert!(error.remedy().unwrap().contains("max_replication_slots"));
        slot::drop(&mut connection, &name()).await.unwrap();

        // A temporary slot ends with its session.
        connection.create_slot(&other, true).await.unwrap();
        let mut sql = cluster.sql().await;
        assert!(
            slot::inspect(&mut sql, &other)
                .await
                .unwrap()
                .unwrap()
                .temporary
        );
        connection.close().await;
        let gone = async {
            while slot::inspect(&mut sql, &other).await.unwrap().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), gone)
            .await
            .expect("the slot stayed");

        let connection = cluster.connect("postgres", SessionKind::Replication).await;
        let error = connection
            .start_replication(&name(), Lsn::ZERO, &[publication()], OPTIONS)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::ObjectMissing);
        assert!(!error.is_transient());

        sql.execute("create role plain login").await.unwrap();
        let error = Connection::connect(&cluster.socket("plain"), SessionKind::Replication)
            .await
            .unwrap_err();
        assert!(!error.is_transient());
        assert!(error.remedy().unwrap().contains("REPLICATION"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_without_logical_wal_is_refused() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &["wal_level=replica"]).await;
        let mut connection = cluster.connect("postgres", SessionKind::Replication).await;
        let error = connection.create_slot(&name(), false).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Unsupported);
        assert!(!error.is_transient());
        assert!(error.remedy().unwrap().contains("wal_level"), "{error:?}");
    }
}

#[tokio::test]
async fn a_slot_whose_wal_is_gone_is_lost_for_good() {
    for (_, bin) in servers() {
        let settings = [
            "max_slot_wal_keep_size=1MB",
            "min_wal_size=32MB",
            "max_wal_size=32MB",
        ];
        let cluster = Cluster::start(&bin, &settings).await;
        let mut sql = cluster.sql().await;
        let mut connection = cluster.connect("postgres", SessionKind::Replication).await;
        let created = connection.create_slot(&name(), false).await.unwrap();
        let mut status = None;
        for _ in 0..20 {
            for command in [
                "select pg_logical_emit_message(false, '', '')",
                "select pg_switch_wal()",
                "checkpoint",
            ] {
                sql.execute(command).await.unwrap();
            }
            let info = slot::inspect(&mut sql, &name()).await.unwrap().unwrap();
            status = info.wal_status;
            if status.as_deref() == Some("lost") {
                assert_eq!(info.invalidation_reason.as_deref(), Some("wal_removed"));
                break;
            }
        }
        assert_eq!(status.as_deref(), Some("lost"));
        let error = connection
            .start_replication(&name(), created.consistent_point, &[publication()], OPTIONS)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::SlotLost, "{error}");
        assert!(!error.is_transient() && error.remedy().is_some());
    }
}
