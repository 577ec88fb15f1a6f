package storetest

// brokenReplayStores are the broken stores for replays; see brokenStores.
func brokenReplayStores() []brokenStore {
	return []brokenStore{
		{"redeliverForgetsSource", redeliverForgetsSource, []string{"Redeliver/Queued", "Redeliver/Claimed"}},
		{"redeliverForgetsReplay", redeliverForgetsReplay, []string{"Redeliver/Queued", "Redeliver/Claimed", "Redeliver/Ended"}},
		{"redeliverAlways", redeliverAlways, []string{
			"Redeliver/EachByItself", "Redeliver/Lacking", "Redeliver/LackingTwice", "Redeliver/DryRun",
		}},
		{"redeliverLacksTheNew", redeliverLacksTheNew, []string{"Redeliver/Lacking"}},
		{"redeliverDryWrites", redeliverDryWrites, []string{"Redeliver/DryRun"}},
		{"redeliverMixesUp", redeliverMixesUp, []string{"Redeliver/EachByItself", "Redeliver/DryRun", "Erase/NotRedelivered"}},
		{"stepForgetsCounts", stepForgetsCounts, []string{"Redeliver/Step", "Redeliver/StepDone", "Redeliver/StepRepeated"}},
		{"stepForgetsCursor", stepForgetsCursor, []string{"Redeliver/Step", "Redeliver/StepDone"}},
		{"stepNeverDone", stepNeverDone, []string{"Redeliver/StepDone", "Replay/Ended", "Forget/Replays"}},
		{"stepDueNow", stepDueNow, []string{"Redeliver/Step", "Replay/Leased"}},
		{"stepApart", stepApart, []string{
			"Redeliver/Step", "Redeliver/StepDone", "Redeliver/StepStale", "Redeliver/StepRepeated", "Redeliver/StepOnce",
			"Redeliver/StepUnknown", "Redeliver/StepPaused",
		}},
		{"sourcesIgnoreBefore", sourcesIgnoreBefore, []string{"Sources/Filter", "Sources/LatestWithin", "Sources/EventsFilter"}},
		{"sourcesIgnoreTo", sourcesIgnoreTo, []string{"Sources/To"}},
		{"sourcesIgnoreType", sourcesIgnoreType, []string{"Sources/Filter", "Sources/EventsFilter"}},
		{"sourcesIgnoreTenant", sourcesIgnoreTenant, []string{"Sources/Filter", "Sources/EventsFilter"}},
		{"sourcesEndEarly", sourcesEndEarly, []string{"Sources/Filter", "Sources/Examine"}},
		{"sourcesUnbounded", sourcesUnbounded, []string{"Sources/Examine"}},
		{"sourcesIgnoreLater", sourcesIgnoreLater, []string{"Sources/Latest", "Sources/LatestWithin", "Sources/ReplayedSince"}},
		{"replayClaimForgetsLease", replayClaimForgetsLease, []string{
			"Replay/LongestDue", "Replay/NoneDue", "Replay/Leased", "Replay/OneClaims", "Replay/ResumeRunning",
		}},
		{"replayClaimSameToken", replayClaimSameToken, []string{"Redeliver/Step", "Replay/TokenGrows"}},
		{"replayClaimForgetsNext", replayClaimForgetsNext, []string{"Replay/NoneDue"}},
		{"replayForgetsTenant", replayForgetsTenant, []string{
			"Replay/PutGet", "Replay/PutTwice", "Replay/List", "Replay/Pause",
		}},
		{"replayDueAtOnce", replayDueAtOnce, []string{
			"Replay/PutGet", "Replay/PutTwice", "Replay/List", "Replay/Due", "Replay/LongestDue?", "Replay/NoneDue",
		}},
		{"replayPauseLetsStepsGoOn", replayPauseLetsStepsGoOn, []string{"Replay/PauseBinds?", "Redeliver/StepPaused", "Replay/Resumed"}},
		{"replayResumesLater", replayResumesLater, []string{"Replay/Pause", "Replay/Resumed"}},
	}
}
