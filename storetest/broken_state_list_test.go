package storetest

// brokenStateStores are the broken stores for states, rates that change, attempts that do not count and woken lanes.
func brokenStateStores() []brokenStore {
	return []brokenStore{
		{"statesIgnoreVersion", statesIgnoreVersion, []string{
			"State/FirstVersionZero", "State/StaleVersion", "State/EachByItself", "State/OneVersion", "State/HoldMovesVersion",
			"State/UnholdMovesVersion", "State/StaleHolds", "State/OneWins", "State/KeepsRate", "Random",
		}},
		{"statesStopAtStale", statesStopAtStale, []string{
			"State/EachByItself", "State/OneVersion", "State/OneWins", "Random",
		}},
		{"statesOneByOne", statesOneByOne, []string{
			"State/PutGet", "State/LargestDoc", "State/OneVersion", "State/OneWins",
		}},
		{"statesForgetHold", statesForgetHold, []string{
			"State/PutWithHold", "State/PutWithUnhold", "State/Retention", "Random",
		}},
		{"statesEndHolds", statesEndHolds, []string{
			"State/KeepsHold", "Random",
		}},
		{"statesForgetNotBefore", statesForgetNotBefore, []string{
			"State/PutGet", "State/Replaced", "State/HoldMovesVersion", "NotBefore/Claim", "NotBefore/BothLanes",
			"NotBefore/OtherHandle", "NotBefore/Status", "NotBefore/LeasedRunsOn", "NotBefore/TakesNoRate", "NotBefore/LaterSends",
			"NotBefore/Ordered", "Random",
		}},
		{"statesHoldWhenStale", statesHoldWhenStale, []string{
			"State/StaleHolds", "Random",
		}},
		{"statesTextOnly", statesTextOnly, []string{
			"State/DocIsBytes", "State/OneVersion",
		}},
		{"stateChangesBackwards", stateChangesBackwards, []string{
			"State/PutGet", "State/EachByItself", "State/OneVersion", "State/HoldMovesVersion", "State/PutWithUnhold",
			"State/ChangesSince", "State/CacheMissesNothing", "State/OneWins", "NotBefore/Status",
		}},
		{"stateChangesSkipHeld", stateChangesSkipHeld, []string{
			"State/HoldMovesVersion", "Random",
		}},
		{"stateChangesRunAhead", stateChangesRunAhead, []string{
			"State/OneVersion", "State/HoldMovesVersion", "State/UnholdMovesVersion", "State/ChangesSince", "State/ChangesBeyond",
			"State/CacheMissesNothing", "Random",
		}},
		{"stateChangesShare", stateChangesShare, []string{
			"State/Retention",
		}},
		{"unholdAlwaysMoves", unholdAlwaysMoves, []string{
			"State/UnholdMovesVersion", "Random",
		}},
		{"claimIgnoresNotBefore", claimIgnoresNotBefore, []string{
			"NotBefore/Claim", "NotBefore/BothLanes", "NotBefore/OtherHandle", "NotBefore/Status", "NotBefore/LeasedRunsOn",
			"NotBefore/TakesNoRate", "NotBefore/LaterSends", "NotBefore/Ordered", "Random",
		}},
		{"claimHidesNotBefore", claimHidesNotBefore, []string{
			"NotBefore/Status", "Random",
		}},
		{"claimWaitsOutOldRates", claimWaitsOutOldRates, []string{
			"Rate/Changed",
		}},
		{"claimForgetsOldRates", claimForgetsOldRates, []string{
			"Rate/ChangedBack",
		}},
		{"claimRoundsRateDown", claimRoundsRateDown, []string{
			"Rate/RoundedUp",
		}},
		{"completeCountsOurs", completeCountsOurs, []string{
			"Complete/QueuedWithAttempt", "Complete/QueuedRecordsAttempt", "Random",
		}},
		{"completeForgetsOurs", completeForgetsOurs, []string{
			"Complete/QueuedWithAttempt", "Complete/QueuedRecordsAttempt", "Random",
		}},
		{"completeWakesNow", completeWakesNow, []string{
			"Complete/Woken", "Complete/WokenRetry", "Random",
		}},
		{"completeWakesAll", completeWakesAll, []string{
			"Complete/Woken", "Complete/WokenRetry", "Random",
		}},
		{"claimLooksAtFew", claimLooksAtFew, []string{
			"Order/LongKeyLeavesRoom",
		}},
	}
}
