package storetest

import (
	"time"

	"github.com/signalpost/webhook"
)

// brokenQueryStores are the broken stores around lists, retention and erasure; see brokenStores.
func brokenQueryStores() []brokenStore {
	return []brokenStore{
		{"listForgetsNewest", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Newest = false }), []string{
			"List/Newest", "List/Bounds", "List/NewestByState",
		}},
		{"listForgetsBefore", listForgets(func(req *webhook.ListDeliveriesRequest) {
			if !req.Newest {
				req.Before = ""
			}
		}), []string{
			"List/Bounds", "List/EndedByEnd",
		}},
		{"listForgetsStates", listForgets(func(req *webhook.ListDeliveriesRequest) { req.States = nil }), []string{
			"List/NewestByState", "List/States", "List/StatesOfEndpoint", "List/EndedByEnd", "Forget/ByState",
		}},
		{"listForgetsType", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Type = "" }), []string{
			"List/ByType", "List/FewMatch",
		}},
		{"listForgetsTenant", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Tenant = nil }), []string{
			"List/ByTenant",
		}},
		{"listForgetsSince", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Since = time.Time{} }), []string{
			"List/ByTime",
		}},
		{"listForgetsUntil", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Until = time.Time{} }), []string{
			"List/ByTime",
		}},
		{"listForgetsResponse", listForgets(func(req *webhook.ListDeliveriesRequest) { req.Response = "" }), []string{
			"List/ByResponse",
		}},
		{"listForgetsNextPage", func(s full) full {
			return brokenQuery{full: s, listed: func(res *webhook.ListDeliveriesResult) { res.Next = "" }}
		}, []string{
			"List/Pages", "List/Limit", "List/ByHeld", "List/Newest", "List/Bounds", "List/NewestByState", "List/States", "List/StatesOfEndpoint", "List/EndedByEnd", "List/ByType", "List/ByTenant", "List/ByTime", "List/ByResponse", "Random",
		}},
		{"eventsForgetUnmatched", eventsForget(func(req *webhook.ListEventsRequest) { req.Unmatched = false }), []string{
			"Events/Unmatched", "Forget/Unmatched",
		}},
		{"eventsForgetNewest", eventsForget(func(req *webhook.ListEventsRequest) { req.Newest = false }), []string{
			"Events/Pages", "Events/Unmatched",
		}},
		{"eventsForgetFilters", eventsForget(func(req *webhook.ListEventsRequest) { req.Type, req.Tenant = "", nil }), []string{
			"Events/Filters",
		}},
		{"headForgetsBlocks", headForgets(func(head *webhook.KeyHead) { head.Blocked = false }), []string{
			"KeyHead/Blocked",
		}},
		{"headForgetsEnds", headForgets(func(head *webhook.KeyHead) { head.Ended = false }), []string{
			"KeyHead/Ended",
		}},
		{"pruneAnyState", pruneForgets(pruneAnyState, nil), []string{
			"Forget/ByState", "Forget/Attempts",
		}},
		{"pruneAnyAge", pruneForgets(pruneAnyAge, nil), []string{
			"Forget/ByAge",
		}},
		{"pruneForgetsBefore", pruneForgets(func(req *webhook.PruneRequest) { req.Before = "" }, nil), []string{
			"Forget/Before",
		}},
		{"pruneForgetsNext", pruneForgets(nil, func(res *webhook.PruneResult) { res.Next = "" }), []string{
			"Forget/Batches", "Forget/Before", "Payload/Batches",
		}},
		{"pruneForgetsPayloads", pruneForgets(func(req *webhook.PruneRequest) { req.PayloadsBefore = time.Time{} }, nil), []string{
			"Payload/Erased", "Payload/AllDelivered", "Payload/Batches",
		}},
		{"prunePayloadsEarly", pruneForgets(func(req *webhook.PruneRequest) {
			if !req.PayloadsBefore.IsZero() {
				req.PayloadsBefore = req.PayloadsBefore.Add(time.Minute)
			}
		}, nil), []string{
			"Payload/Erased", "Payload/AllDelivered",
		}},
		{"pruneForgetsUnmatched", pruneForgets(func(req *webhook.PruneRequest) { req.UnmatchedBefore = time.Time{} }, nil), []string{
			"Forget/Unmatched",
		}},
		{"pruneForgetsReplays", pruneForgets(func(req *webhook.PruneRequest) { req.ReplaysBefore = time.Time{} }, nil), []string{
			"Forget/Replays",
		}},
		{"pruneReplaysEarly", pruneForgets(func(req *webhook.PruneRequest) {
			if !req.ReplaysBefore.IsZero() {
				req.ReplaysBefore = req.ReplaysBefore.Add(time.Microsecond)
			}
		}, nil), []string{
			"Forget/Replays",
		}},
		{"pruneTakesWhatWaits", func(s full) full { return brokenForget{s} }, []string{
			"Forget/ByState", "Forget/Event", "Forget/Unfinished", "Forget/Batches",
		}},
		{"pruneTakesBlocks", func(s full) full { return brokenBlocks{s} }, []string{
			"Forget/Blocking",
		}},
		{"eraseForgetsCount", eraseForgets(func(req *webhook.EraseTenantRequest) { req.Count = false }, nil), []string{
			"Erase/Count",
		}},
		{"eraseForgetsLimit", eraseForgets(func(req *webhook.EraseTenantRequest) { req.Limit = 0 }, nil), []string{
			"Erase/Batches",
		}},
		{"eraseForgetsNext", eraseForgets(nil, func(res *webhook.EraseTenantResult) { res.Next = "" }), []string{
			"Erase/Batches",
		}},
		{"eraseHidesWaiting", eraseForgets(nil, func(res *webhook.EraseTenantResult) { res.Waiting = nil }), []string{
			"Erase/Waiting", "Erase/Count",
		}},
		{"eraseTakesOthers", func(s full) full { return brokenErase{s} }, []string{
			"Erase/OtherTenants", "Erase/Batches",
			"Erase/NotRedelivered",
		}},
		{"eraseTakesWhatWaits", func(s full) full { return brokenWaiting{s} }, []string{
			"Erase/Waiting",
		}},
	}
}
