package faults_test

import (
	"fmt"
	"testing"
	"time"
)

// TestSoakFaults repeats, in their long forms, the tests that have no soak of their
// own, round after round with other seeds, for the time that `make soak` is given.
func TestSoakFaults(t *testing.T) {
	limit := soakTime(t)
	for round, begin := 1, time.Now(); time.Since(begin) < limit && !t.Failed(); round++ {
		t.Run(fmt.Sprintf("round-%d", round), func(t *testing.T) {
			// Those that mostly wait run beside each other, at the end of the round.
			for name, test := range soaked() {
				t.Run(name, test)
			}
		})
	}
}

func soaked() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"CoordinatorMoves":   TestCoordinatorMoves,
		"LostInATransaction": TestLostInATransaction,
		"Cursors":            TestCursors,
		"CursorsOfStreams":   TestCursorsOfStreams,
		"FatalErrors":        TestFatalErrors,
		"Frozen":             TestFrozen,
		"Zombie":             TestZombie,
		"HistoryLost":        TestHistoryLost,
		"RepairKilled":       TestRepairKilled,
		"RepairOneSlice":     TestRepairOneSlice,
		"HistoryLostStops":   TestHistoryLostStops,
		"RepairForms":        TestRepairForms,
		"SIGTERMRun":         TestSIGTERMRun,
		"LargeDocuments":     TestLargeDocuments,
		"Memory":             TestMemory,
		"MemoryWithoutKafka": TestMemoryWithoutKafka,
		"Network":            TestNetwork,
		"Outage":             TestOutage,
		"Replicas":           TestReplicas,
		"Twins":              TestTwins,
		"UnreadyKafkaHangs":  TestUnreadyWhileKafkaHangs,
		"SlowTransactions":   TestTransactionsThatTakeTooLong,
		"KillWhileMerging":   TestKillWhileMergesWait,
		"OtherCluster":       TestMovedToAnotherCluster,
		"Restored":           TestRestored,
		"RestoredIsSaid":     TestRestoredIsSaid,
		"Reinitiated":        TestReinitiatedWhileRunning,
		"Uncommitted":        TestUncommitted,
		"CheckOfBrokers":     TestCheckOfBrokers,
		"DataChangesRepair":  TestDataChangesRepair,
		"DataChangesMemory":  TestDataChangesMemory,
	}
}
