package storetest

// brokenLifeStores are the broken stores around early ends, expiry and backlogs; see brokenStores.
func brokenLifeStores() []brokenStore {
	return []brokenStore{
		{"endTakesLeased", endTakesLeased, []string{
			"End/LeasedLeft", "End/InsertedLeased", "Expire/Leased", "Expire/LeaseExtended", "Expire/Ordered", "Random",
		}},
		{"endFencesNothing", endFencesNothing, []string{
			"End/LeasedFenced", "End/InsertedLeased", "End/OrderedLeased", "End/OldestLeased", "Expire/Leased",
			"Backlog/CountLeavesOutEnded", "Random",
		}},
		{"endForgetsReason", endForgetsReason, []string{
			"End/Waiting", "End/Held", "End/LeasedFenced", "End/Repeated", "End/Reason", "End/OrderedFirst", "End/OrderedMiddle",
			"End/OrderedAll", "End/OrderedLeased", "End/BehindDeadLetter", "Expire/Due", "Random",
		}},
		{"endForgetsLimit", endForgetsLimit, []string{
			"End/Limit", "End/Oldest", "Expire/More", "Random",
		}},
		{"endTakesOneMore", endTakesOneMore, []string{
			"End/Oldest", "End/OldestLeased", "Random",
		}},
		{"endNeverSaysMore", endNeverSaysMore, []string{
			"End/Limit", "End/DefaultLimit", "End/Oldest", "Expire/EarliestFirst", "Expire/More", "Random",
		}},
		{"endFindsNothing", endFindsNothing, []string{
			"End/Event", "End/Delivery", "End/LeasedLeft", "End/Final", "End/Repeated", "End/Limit", "End/BlockingDeadLetter", "Random",
		}},
		{"endsBackwards", endsBackwards, []string{
			"End/Oldest", "Expire/More", "Random",
		}},
		{"endWakesTheWrong", endWakesTheWrong, []string{
			"End/OrderedScheduled", "Random",
		}},
		{"endExpiresEarly", endExpiresEarly, []string{
			"Expire/Due", "Expire/Leased", "Expire/Retrying", "Random",
		}},
		{"endIsLenient", func(s full) full { return endIsLenient{s} }, []string{
			"End/Refused",
		}},
		{"endWaitsItsTurn", endWaitsItsTurn, []string{
			"End/Repeated", "End/OrderedFirst", "End/OrderedLeased", "End/BehindDeadLetter", "Complete/EndedKeepsRecord",
			"Expire/Ordered", "Random",
		}},
		{"completeOverwritesEnded", completeOverwritesEnded, []string{
			"End/OrderedFirst", "End/OrderedMiddle", "End/OrderedAll", "End/OrderedLeased", "Complete/EndedKeepsRecord", "Random",
		}},
		{"claimHidesEnds", claimHidesEnds, []string{
			"End/OrderedFirst", "End/OrderedMiddle", "End/OrderedLeased", "End/OrderedRetry", "End/BehindDeadLetter",
			"End/BlockingDeadLetter", "Expire/Ordered", "Random",
			"Concurrent/End?",
		}},
		{"claimForgetsExpiry", claimForgetsExpiry, []string{
			"Enqueue/ExpiresAt", "Expire/StillClaimed", "Random",
		}},
		{"enqueueForgetsExpiry", func(s full) full { return enqueueForgetsExpiry{s} }, []string{
			"Enqueue/ExpiresAt", "Enqueue/ExpiresAtWhenRead", "Enqueue/ExpiresAtRefused", "Expire/StillClaimed", "Expire/Due",
			"Expire/EarliestFirst", "Expire/Leased", "Expire/LeaseExtended", "Expire/Retrying", "Expire/Ordered", "Expire/More", "Random",
		}},
		{"backlogCountsEnded", backlogCountsEnded, []string{
			"Backlog/CountLeavesOutEnded", "Random",
		}},
		{"backlogForgetsCount", backlogForgetsCount, []string{
			"Backlog/Count", "Random",
		}},
		{"backlogForgetsEndpoints", backlogForgetsEndpoints, []string{
			"Backlog/Ages", "Backlog/Endpoints", "Backlog/Blocked",
		}},
		{"backlogForgetsNextPage", backlogForgetsNextPage, []string{
			"Backlog/Pages", "Random",
		}},
		{"backlogAgesAll", backlogAgesAll, []string{
			"Backlog/Parked", "Random",
			"Backlog/Ages", "Backlog/LeasedDoNotAge",
		}},
		{"backlogForgetsParked", backlogForgetsParked, []string{
			"Backlog/Parked", "Random",
		}},
		{"backlogForgetsBlocked", backlogForgetsBlocked, []string{
			"Backlog/Blocked", "Random",
		}},
		{"blockedBackwards", blockedBackwards, []string{
			"BlockedKeys/Oldest", "BlockedKeys/Pages",
		}},
		{"blockedForgetsHeld", blockedForgetsHeld, []string{
			"BlockedKeys/Oldest", "Random",
		}},
		{"blockedForgetsNextPage", blockedForgetsNextPage, []string{
			"BlockedKeys/Pages",
		}},
	}
}
