use super::*;
use crate::update::release::tests::sample;
use crate::update::trust::{KeyId, tests::pair};

fn admitted(counter: u64) -> Admitted {
    let release = Release { counter, ..sample() };
    let sha256 = Digest::of(&counter.to_le_bytes());
    let desired = Desired { schema: String::new(), release: String::new(), signature: String::new() };
    Admitted { desired, release, sha256, signer: KeyId::of(&pair().pk) }
}

fn open(dir: &tempfile::TempDir) -> Ledger {
    Ledger::open(dir.path())
}

/// As the agent takes an update, opened again after each step.
fn take(dir: &tempfile::TempDir, counter: u64) {
    open(dir).begin(&admitted(counter)).unwrap();
    for phase in [Phase::Verified, Phase::Staged, Phase::Shadow] {
        open(dir).advance(phase).unwrap();
    }
    open(dir).try_out(None).unwrap();
}

#[test]
fn slots_take_turns_and_the_floor_rises() {
    let dir = tempfile::tempdir().unwrap();
    let mut slots = Vec::new();
    for counter in 1..=3 {
        take(&dir, counter);
        assert_eq!(open(&dir).phase().0, Phase::Trial);
        assert!(open(&dir).begin(&admitted(9)).is_err(), "one after the other");
        open(&dir).commit().unwrap();
        let ledger = open(&dir);
        assert_eq!((ledger.phase().0, ledger.floor().unwrap().counter), (Phase::Committed, counter));
        slots.push(ledger.active().unwrap().slot);
        assert_eq!(ledger.active().unwrap().release, admitted(counter).sha256);
        assert!(ledger.candidate().is_none());
    }
    assert_eq!(slots, [Slot::A, Slot::B, Slot::A]);
    // Whoever wipes ledger and slots does not lower the floor.
    std::fs::remove_dir_all(dir.path().join("update")).unwrap();
    assert_eq!((open(&dir).active(), open(&dir).floor().unwrap().counter), (None, 3));
}

#[test]
fn a_bundle_that_ends_the_agent_is_given_up_after_three_starts() {
    let dir = tempfile::tempdir().unwrap();
    take(&dir, 1);
    open(&dir).commit().unwrap();
    take(&dir, 2);
    assert!(!open(&dir).started());
    open(&dir).stopped().unwrap();
    for _ in 0..STARTS {
        assert!(!open(&dir).started());
        assert_eq!(open(&dir).active().unwrap().release, admitted(2).sha256);
    }
    assert!(open(&dir).started());
    let ledger = open(&dir);
    assert_eq!(ledger.active().unwrap().release, admitted(1).sha256);
    assert_eq!(ledger.phase(), (Phase::RolledBack, Some("it ended the agent 3 times")));
    assert_eq!(ledger.given_up(&admitted(2).sha256), Some(("it ended the agent 3 times", true)));
}

#[test]
fn a_bundle_that_cannot_be_used_any_more_gives_way_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    take(&dir, 1);
    open(&dir).commit().unwrap();
    take(&dir, 2);
    open(&dir).commit().unwrap();
    open(&dir).fall_back("damaged").unwrap();
    assert_eq!(open(&dir).active().unwrap().release, admitted(1).sha256);
    open(&dir).fall_back("damaged as well").unwrap();
    assert_eq!(open(&dir).active(), None);
    assert_eq!(open(&dir).phase(), (Phase::RolledBack, Some("damaged as well")));
}

#[test]
fn what_the_disk_refuses_to_note_counts_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    take(&dir, 1);
    let mut ledger = open(&dir);
    let in_the_way = dir.path().join("update/ledger.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(ledger.give_up("it hangs").is_err());
    assert_eq!((ledger.active(), ledger.phase().0), (None, Phase::RolledBack));
    std::fs::remove_dir(&in_the_way).unwrap();
    ledger.save().unwrap();
    assert_eq!(open(&dir).phase(), (Phase::RolledBack, Some("it hangs")));
}

#[test]
fn a_candidate_that_is_given_up_leaves_the_active_one() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).begin(&admitted(1)).unwrap();
    open(&dir).give_up("it is slow").unwrap();
    assert_eq!((open(&dir).active(), open(&dir).floor().unwrap().counter), (None, 0));
    open(&dir).begin(&admitted(2)).unwrap();
    open(&dir).forget().unwrap();
    assert_eq!(open(&dir).given_up(&admitted(2).sha256), None, "it may come again");
    assert_eq!(open(&dir).given_up(&admitted(1).sha256), Some(("it is slow", false)));
}

#[test]
fn a_damaged_ledger_is_no_reason_to_stop_and_a_damaged_floor_is() {
    let dir = tempfile::tempdir().unwrap();
    take(&dir, 1);
    std::fs::write(dir.path().join("update/ledger.json"), b"{\"phase\"").unwrap();
    assert_eq!(open(&dir).active(), None);
    assert!(dir.path().join("update/ledger.damaged").exists());
    std::fs::write(dir.path().join("update-floor.json"), b"").unwrap();
    let error = format!("{:#}", open(&dir).floor().unwrap_err());
    assert!(error.contains("write {\"counter\": N} into it"), "{error}");
}
