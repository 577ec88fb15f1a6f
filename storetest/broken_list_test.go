package storetest

type brokenStore struct {
	name   string
	breaks func(full) full
	red    []string // the cases that must fail; all others must pass
}

// brokenStores are the broken stores, each with the cases that tell. "Random" stands for at least one of the random cases.
func brokenStores() []brokenStore {
	return []brokenStore{
		{"claimIgnoresHolds", claimIgnoresHolds, []string{
			"Hold/Claim", "Hold/Status", "Hold/OtherHandle", "Hold/Until", "Hold/OtherEndpoints", "Hold/LeasedRunsOn",
			"Hold/Replaced", "Hold/LaterSends", "Hold/Ordered", "Cancelled/HoldStore", "Random",
			"State/PutWithHold", "State/PutWithUnhold", "State/StaleHolds",
		}},
		{"claimExceedsMax", claimExceedsMax, []string{
			"Claim/EarliestFirst", "Claim/Max", "Claim/More", "Rate/TwoHandles", "Rate/OnlyReturnedCounts", "Rate/Until", "Random",
		}},
		{"claimExceedsLimit", claimExceedsLimit, []string{
			"Lanes/From",
			"Claim/EarliestFirst", "Claim/Limit", "Claim/FairnessOrder", "Claim/More", "Random",
		}},
		{"claimIgnoresRate", claimIgnoresRate, []string{
			"Rate/Burst", "Rate/TwoHandles", "Rate/BothLanes", "Rate/Defaults", "Rate/OnlyReturnedCounts", "Rate/Until",
			"Rate/EndpointsIndependent", "Rate/Concurrent", "Random",
			"Rate/Changed", "Rate/ChangedBack", "Rate/RoundedUp", "State/KeepsRate", "NotBefore/TakesNoRate",
		}},
		{"claimReadsOwnClock", claimReadsOwnClock, []string{
			"Claim/OwnClock",
		}},
		{"claimKeepsToken", claimKeepsToken, []string{
			"Complete/OrderingKeyIsAHint",
			"Redeliver/Claimed", "Leased/TakenOver", "Claim/RetryLane", "Claim/TokenGrows", "Lease/RunsOut", "Order/ThroughRetry",
			"Order/ThroughLeaseEnd", "Order/ThroughGiveBack", "Extend/StaleToken", "Complete/StaleToken", "Complete/RetryScheduled",
			"Complete/GiveBackOfRetry", "Complete/RepeatedAfterClaim", "Attempt/RoundTrip", "Attempt/Late", "Attempt/RecordedOnce",
			"Attempt/Order", "Attempt/NoneWhenGivenBack", "Endpoint/DeletedKeepsDeliveries", "Concurrent/Drain", "Random",
			"Complete/QueuedWithAttempt", "Complete/QueuedRecordsAttempt", "Complete/WokenRetry", "End/OrderedLeased", "End/OrderedRetry",
			"Concurrent/End",
			"List/ByResponse", "Forget/Attempts", "Forget/Event", "Forget/Late",
			"Redeliver/Claimed",
		}},
		{"claimIgnoresLeases", claimIgnoresLeases, []string{
			"Lanes/From",
			"Sources/Final", "Enqueue/Many", "Enqueue/DueAt", "Leased/NotClaimed", "Lanes/Earliest", "Claim/Due", "Claim/EarliestFirst",
			"Claim/OwnClock", "Lease/Kept", "Lease/LongAndShort", "Order/OneAtATime", "Order/ThroughRetry", "Order/ThroughLeaseEnd",
			"Order/EnqueuedBehindLeased", "Order/EveryEndLetsNextGo", "Order/StaleLetsNobodyGo", "DeadLetter/Skip",
			"DeadLetter/Block", "DeadLetter/HoldKey", "ReleaseKey/AfterBlock", "ReleaseKey/AfterHoldKey",
			"ReleaseKey/NothingToRelease", "Complete/StaleToken", "Complete/RepeatedAfterClaim", "Query/Delivering", "Query/Held",
			"Query/HoldKey", "List/ByState", "Concurrent/NoDoubleClaim", "Concurrent/SameID", "Concurrent/Drain", "Random",
			"Complete/Woken", "Complete/WokenRetry", "Order/LongKeyLeavesRoom", "End/LeasedLeft", "End/OrderedFirst", "End/OrderedMiddle",
			"End/OrderedLeased", "End/OldestLeased", "Complete/EndedRepeated", "Expire/Leased", "Expire/LeaseExtended", "Expire/Ordered",
			"Backlog/LeasedDoNotAge", "Backlog/Parked", "Backlog/CountLeavesOutEnded", "NotBefore/Claim",
			"Concurrent/End?",
			"List/States", "List/StatesOfEndpoint", "Forget/ByState",
			"Sources/Final",
		}},
		{"claimLatestFirst", claimLatestFirst, []string{
			"Claim/EarliestFirst", "Claim/LaneByLane", "Claim/FairnessOrder", "Complete/PoisonedLeavesNothing", "Complete/Repeated",
			"Random",
		}},
		{"claimNeverSaysMore", claimNeverSaysMore, []string{
			"Enqueue/Many", "Claim/LaneStatuses", "Claim/More", "Claim/NextFrom", "Claim/BehindParked", "Random",
		}},
		{"claimNumbersWithGaps", claimNumbersWithGaps, []string{
			"Sequence/InRequestOrder", "Sequence/PerEndpointAndKey", "Sequence/KeysAreBytes", "Sequence/GoesOnAfterTheEnd",
			"Sequence/RepeatTakesNone", "Sequence/ErrorTakesNone", "Claim/Fields", "Order/LongKey", "ReleaseKey/EmptyKey",
			"Concurrent/Sequence", "Concurrent/KeysCrossed", "Random",
			"Order/LongKeyOutOfStep", "End/OrderedNeverParked",
		}},
		{"claimBreaksOrder", claimBreaksOrder, []string{
			"Complete/OrderingKeyIsAHint",
			"Redeliver/BlockedKey", "Sequence/InRequestOrder", "Sequence/PerEndpointAndKey", "Sequence/RepeatTakesNone", "Sequence/ErrorTakesNone",
			"Lanes/WritesNothing", "Claim/BehindParked", "Order/OneAtATime", "Order/ThroughRetry", "Order/ThroughLeaseEnd",
			"Order/ThroughGiveBack", "Order/FirstDueLater", "Order/SecondDueLater", "Order/KeysIndependent",
			"Order/EnqueuedBehindLeased", "Order/EveryEndLetsNextGo", "Order/StaleLetsNobodyGo", "Order/LongKey",
			"Order/ManyKeysAtOnce", "DeadLetter/Skip", "DeadLetter/Block", "DeadLetter/HoldKey", "DeadLetter/OtherKeysGoOn",
			"ReleaseKey/AfterBlock", "ReleaseKey/AfterHoldKey", "ReleaseKey/NothingToRelease", "Hold/Ordered", "Cancelled/HoldStore",
			"Query/HoldKey", "Concurrent/Sequence", "Concurrent/KeysCrossed", "Concurrent/Drain", "Random",
			"Complete/WokenRetry", "Order/LongKeyLeavesRoom", "Order/LongKeyOutOfStep", "End/OrderedFirst", "End/OrderedMiddle",
			"End/OrderedAll", "End/OrderedScheduled", "End/OrderedLeased", "End/OrderedNeverParked", "End/OrderedRetry",
			"End/BehindDeadLetter", "End/BlockingDeadLetter", "Complete/EndedKeepsRecord", "Complete/EndedRepeated", "Expire/Ordered",
			"Backlog/Parked", "Backlog/Count", "Backlog/CountLeavesOutEnded", "Backlog/WritesNothing", "NotBefore/Ordered",
			"Concurrent/End",
			"KeyHead/First", "KeyHead/Blocked", "Forget/Blocking", "Forget/EndedInKey", "Erase/InKey",
			"Redeliver/BlockedKey",
		}},
		{"claimSharesEvents", claimSharesEvents, []string{
			"Retention/Claimed",
		}},
		{"enqueueTakesConflictsForRepeats", enqueueTakesConflictsForRepeats, []string{
			"Enqueue/RepeatOnOtherHandle", "Enqueue/RepeatOfFinished", "Enqueue/Conflict", "Enqueue/ConflictWithinRequest",
			"Enqueue/StatusesInOrder", "Sequence/RepeatTakesNone", "Prune/KeptEvents", "Concurrent/SameID", "Random",
			"Forget/IDStaysKnown", "Erase/IDStaysKnown",
		}},
		{"enqueueLosesOne", enqueueLosesOne, []string{
			"Enqueue/Many", "Sequence/KeysAreBytes", "Claim/NextFrom", "Complete/Many", "List/Limit", "Concurrent/NoDoubleClaim",
			"Order/LongKeyOutOfStep", "End/DefaultLimit",
			"Forget/Batches",
		}},
		{"enqueueOneByOne", enqueueOneByOne, []string{
			"Enqueue/RefusedLeavesNothing", "Sequence/ErrorTakesNone", "Random",
			"Enqueue/ExpiresAtRefused",
		}},
		{"enqueueBackwards", enqueueBackwards, []string{
			"Enqueue/RepeatWithinRequest", "Enqueue/ConflictWithinRequest", "Sequence/InRequestOrder", "Sequence/PerEndpointAndKey",
			"Random",
			"Order/LongKeyLeavesRoom", "Order/LongKeyOutOfStep", "Backlog/WritesNothing",
		}},
		{"enqueueLeasesRepeats", enqueueLeasesRepeats, []string{
			"Leased/RepeatLeasesNothing", "Random",
		}},
		{"lanesForgetsNextPage", lanesForgetsNextPage, []string{
			"Lanes/Pages", "Random",
		}},
		{"lanesForgetsRetries", lanesForgetsRetries, []string{
			"Lanes/Lists", "Lanes/Order", "Lanes/Pages", "Lanes/AfterIsExclusive", "Lanes/Earliest", "Complete/RetryScheduled",
			"Concurrent/Drain", "Random",
		}},
		{"lanesFromMisses", lanesFromMisses, []string{
			"Lanes/From", "Claim/From", "Random",
		}},
		{"extendRevives", extendRevives, []string{
			"Extend/StaleToken", "Extend/EachByItself", "Random",
		}},
		{"completeAcceptsStale", completeAcceptsStale, []string{
			"Leased/TakenOver", "Order/StaleLetsNobodyGo", "Complete/StaleToken", "Complete/EachByItself", "Complete/Repeated",
			"Complete/RepeatedAfterClaim", "Attempt/Late", "Attempt/RecordedOnce", "Attempt/Order", "Query/LateDoesNotCount",
			"Random",
			"Complete/QueuedRecordsAttempt",
		}},
		{"completeForgetsAttempts", completeForgetsAttempts, []string{
			"Complete/OrderingKeyIsAHint",
			"Redeliver/Queued", "Claim/RetryLane", "Complete/StaleToken", "Complete/GiveBackOfRetry", "Complete/Repeated", "Complete/RepeatedAfterClaim",
			"Attempt/RoundTrip", "Attempt/Microseconds", "Attempt/Late", "Attempt/RecordedOnce", "Attempt/Order",
			"Retention/Complete", "Query/RetryScheduled", "Query/Final", "Concurrent/SameCompletion", "Random",
			"Complete/QueuedWithAttempt", "Complete/QueuedRecordsAttempt", "End/Waiting", "End/LeasedFenced", "End/OrderedRetry",
			"Complete/EndedKeepsRecord", "Complete/EndedRepeated",
			"List/ByResponse", "Forget/Attempts", "Payload/Erased", "Erase/OtherTenants", "Erase/Waiting", "Erase/InKey",
			"Redeliver/Queued",
		}},
		{"completeForgetsLateAttempts", completeForgetsLateAttempts, []string{
			"Attempt/Late", "Attempt/RecordedOnce", "Attempt/Order", "Random",
			"Complete/QueuedRecordsAttempt", "End/LeasedFenced",
		}},
		{"completeOneByOne", completeOneByOne, []string{
			"Complete/PoisonedLeavesNothing",
		}},
		{"completeStopsAtStale", completeStopsAtStale, []string{
			"Complete/EachByItself", "Complete/PoisonedLeavesNothing", "Random",
		}},
		{"completeWakesTooEarly", completeWakesTooEarly, []string{
			"Redeliver/BlockedKey", "DeadLetter/Block", "DeadLetter/HoldKey", "DeadLetter/BlocksLaterSends", "DeadLetter/OtherKeysGoOn",
			"ReleaseKey/AfterBlock", "ReleaseKey/AfterHoldKey", "ReleaseKey/EmptyKey", "Cancelled/HoldStore", "Query/HoldKey",
			"Random",
			"Complete/Woken", "End/BehindDeadLetter", "End/BlockingDeadLetter", "Backlog/Blocked", "BlockedKeys/Oldest",
			"BlockedKeys/Pages",
			"KeyHead/Blocked", "Forget/Blocking", "Erase/InKey",
			"Erase/NotRedelivered", "Redeliver/BlockedKey",
		}},
		{"completeIgnoresContext", completeIgnoresContext, []string{
			"Cancelled/Store",
		}},
		{"completeGivesBackToRetry", completeGivesBackToRetry, []string{
			"Extend/StaleAfterEnd", "Extend/EachByItself", "Complete/StaleAfterGiveBack", "Complete/EachByItself",
			"Complete/GiveBack", "Complete/Repeated", "Attempt/NoneWhenGivenBack", "Random",
			"Complete/QueuedWithAttempt", "Complete/QueuedRecordsAttempt",
		}},
		{"holdForgetsUntil", holdForgetsUntil, []string{
			"Hold/Status", "Hold/Until", "Hold/Replaced", "Hold/List", "Query/HeldUntil", "List/ByHeld", "Random",
			"State/HoldMovesVersion", "State/KeepsHold", "State/HoldOver",
		}},
		{"holdsListsEnded", holdsListsEnded, []string{
			"Hold/List",
			"State/HoldOver",
		}},
		{"releaseAlwaysDid", releaseAlwaysDid, []string{
			"ReleaseKey/AfterBlock", "ReleaseKey/AfterHoldKey", "ReleaseKey/NothingToRelease", "Random",
		}},
		{"putKeepsOld", putKeepsOld, []string{
			"Endpoint/Replaced", "Changes/Since", "Changes/VersionGrows",
		}},
		{"replacedKeepVersion", replacedKeepVersion, []string{
			"Retention/Endpoint", "Changes/Since", "Changes/Deleted", "Changes/CacheMissesNothing", "Endpoint/Update",
		}},
		{"changesForgetDeleted", changesForgetDeleted, []string{
			"Changes/Deleted",
		}},
		{"beginGivesTwice", beginGivesTwice, []string{
			"Cancelled/DedupeStore", "Dedupe/TakenOnce", "Dedupe/OneOfMany", "Dedupe/HoldEnds", "Dedupe/LongKeys",
			"Dedupe/OtherDigestWhileRunning", "Finish/StaleToken", "Release/StaleToken", "Prune/OnlyExpired",
		}},
		{"finishIgnoresToken", finishIgnoresToken, []string{
			"Finish/StaleToken", "Prune/TokenGrows",
		}},
		{"listShowsHeldAsQueued", listShowsHeldAsQueued, []string{
			"Query/Held", "Query/HeldUntil", "Query/HoldKey", "Random",
		}},
		{"attemptsBackwards", attemptsBackwards, []string{
			"Attempt/RoundTrip", "Attempt/Late", "Attempt/RecordedOnce", "Attempt/Order", "Random",
		}},
		{"pruneForgetsLimit", pruneForgetsLimit, []string{
			"Prune/Limit",
			"Forget/Batches", "Forget/Before", "Forget/Unmatched", "Forget/Replays", "Payload/Batches",
		}},
	}
}
