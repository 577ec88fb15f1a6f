package storetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// brokenPutStates replaces PutStates.
type brokenPutStates struct {
	full
	put func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error)
}

func (b brokenPutStates) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	own := *req
	own.States = slices.Clone(req.States)
	return b.put(ctx, b.full, &own)
}

// currentVersions are the versions of all states.
func currentVersions(ctx context.Context, s full) map[string]int64 {
	versions := map[string]int64{}
	if res, err := s.StateChanges(ctx, 0); err == nil {
		for _, st := range res.States {
			versions[st.EndpointID] = st.Version
		}
	}
	return versions
}

// statesIgnoreVersion lets the last one win.
func statesIgnoreVersion(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		have := currentVersions(ctx, s)
		for i := range req.States {
			req.States[i].Version = have[req.States[i].EndpointID]
		}
		return s.PutStates(ctx, req)
	}}
}

// statesStopAtStale applies nothing when one is stale.
func statesStopAtStale(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		have := currentVersions(ctx, s)
		for _, st := range req.States {
			if st.Version != have[st.EndpointID] {
				for i := range req.States {
					req.States[i].Version = 1 << 40
				}
			}
		}
		return s.PutStates(ctx, req)
	}}
}

// statesOneByOne gives each state a version of its own, and applies what comes before the one that it refuses.
func statesOneByOne(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		all := &webhook.PutStatesResult{}
		for _, st := range req.States {
			res, err := s.PutStates(ctx, &webhook.PutStatesRequest{Now: req.Now, States: []webhook.NewState{st}})
			if err != nil {
				return nil, err
			}
			all.States, all.Version = append(all.States, res.States...), max(all.Version, res.Version)
		}
		return all, nil
	}}
}

// statesForgetHold leaves holds as they are.
func statesForgetHold(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		for i := range req.States {
			req.States[i].Hold, req.States[i].Unhold = nil, false
		}
		return s.PutStates(ctx, req)
	}}
}

// statesEndHolds replaces a hold by none.
func statesEndHolds(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		for i := range req.States {
			req.States[i].Unhold = req.States[i].Hold == nil
		}
		return s.PutStates(ctx, req)
	}}
}

// statesForgetNotBefore keeps the document only.
func statesForgetNotBefore(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		for i := range req.States {
			req.States[i].NotBefore = time.Time{}
		}
		return s.PutStates(ctx, req)
	}}
}

// statesHoldWhenStale holds and unholds before it looks at versions.
func statesHoldWhenStale(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		res, err := s.PutStates(ctx, req)
		for i, st := range req.States {
			switch {
			case err != nil || res.States[i] == webhook.Applied:
			case st.Hold != nil:
				h := *st.Hold
				h.EndpointID = st.EndpointID
				s.Hold(ctx, &h)
			case st.Unhold:
				s.Unhold(ctx, st.EndpointID)
			}
		}
		return res, err
	}}
}

// statesTextOnly keeps a document only as far as it is text.
func statesTextOnly(s full) full {
	return brokenPutStates{s, func(ctx context.Context, s full, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
		for i := range req.States {
			req.States[i].Doc = slices.DeleteFunc(slices.Clone(req.States[i].Doc), func(b byte) bool { return b == 0 })
		}
		return s.PutStates(ctx, req)
	}}
}

// brokenStateChanges wraps StateChanges.
type brokenStateChanges struct {
	full
	after func(since int64, res *webhook.StateChanges)
}

func (b brokenStateChanges) StateChanges(ctx context.Context, since int64) (*webhook.StateChanges, error) {
	res, err := b.full.StateChanges(ctx, since)
	if err == nil {
		b.after(since, res)
	}
	return res, err
}

// stateChangesBackwards lists states in the wrong order.
func stateChangesBackwards(s full) full {
	return brokenStateChanges{s, func(_ int64, res *webhook.StateChanges) { slices.Reverse(res.States) }}
}

// stateChangesSkipHeld forgets to tell of holds.
func stateChangesSkipHeld(s full) full {
	return brokenStateChanges{s, func(since int64, res *webhook.StateChanges) {
		res.States = slices.DeleteFunc(res.States, func(st webhook.EndpointState) bool { return st.Hold != nil && since > 0 })
	}}
}

// stateChangesRunAhead tells of a version that other changes will have.
func stateChangesRunAhead(s full) full {
	return brokenStateChanges{s, func(_ int64, res *webhook.StateChanges) { res.Version++ }}
}

// stateChangesShare returns the same states to all who ask.
func stateChangesShare(s full) full {
	var mu sync.Mutex
	docs := map[string][]byte{}
	return brokenStateChanges{s, func(_ int64, res *webhook.StateChanges) {
		mu.Lock()
		defer mu.Unlock()
		for i, st := range res.States {
			if doc, ok := docs[st.EndpointID]; ok && len(doc) == len(st.Doc) && st.EndpointID == "a" && len(doc) == 3 {
				res.States[i].Doc = doc
			}
			docs[st.EndpointID] = res.States[i].Doc
		}
	}}
}

// brokenUnhold wraps Unhold.
type brokenUnhold struct{ full }

// unholdAlwaysMoves gives a state a new version though there was no hold to end.
func unholdAlwaysMoves(s full) full { return brokenUnhold{s} }

func (b brokenUnhold) Unhold(ctx context.Context, id string) error {
	if err := b.full.Hold(ctx, &webhook.HoldRequest{EndpointID: id}); err != nil {
		return err
	}
	return b.full.Unhold(ctx, id)
}

// claimIgnoresNotBefore takes no notice of NotBefore, and tells it.
func claimIgnoresNotBefore(s full) full {
	return brokenClaim{full: s, before: func(s full, req *webhook.ClaimRequest) {
		res, err := s.StateChanges(context.Background(), 0)
		if err != nil {
			return
		}
		for _, st := range res.States {
			if !st.NotBefore.IsZero() {
				s.PutStates(context.Background(), &webhook.PutStatesRequest{States: []webhook.NewState{
					{EndpointID: st.EndpointID, Version: st.Version, Doc: st.Doc}}})
			}
		}
	}}
}

// claimHidesNotBefore does not say until when nothing is to be had.
func claimHidesNotBefore(s full) full {
	return brokenClaim{full: s, after: func(_ full, req *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Lanes {
			if req.Lanes[i].Rate.Events == 0 {
				res.Lanes[i].RateUntil = time.Time{}
			}
		}
	}}
}

// claimWaitsOutOldRates refuses a looser rate as long as a stricter one would.
func claimWaitsOutOldRates(s full) full {
	var mu sync.Mutex
	strict := map[string]time.Time{} // when the strictest rate that was asked for has its next
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		mu.Lock()
		defer mu.Unlock()
		for i, l := range req.Lanes {
			if l.Rate.Per > time.Minute {
				strict[l.EndpointID] = req.Now.Add(l.Rate.Per)
			} else if strict[l.EndpointID].After(req.Now) {
				req.Lanes[i].Rate = webhook.Rate{Events: 1, Per: 5 * time.Minute, Burst: 1}
			}
		}
	}}
}

// claimForgetsOldRates gives each new rate of an endpoint a full bucket.
func claimForgetsOldRates(s full) full {
	var mu sync.Mutex
	last, now := map[string]webhook.Rate{}, map[string]time.Time{}
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		mu.Lock()
		defer mu.Unlock()
		for i, l := range req.Lanes {
			switch was := last[l.EndpointID]; {
			case l.Rate.Per != 10*time.Second || l.Rate.Burst != 1:
				last[l.EndpointID], now[l.EndpointID] = l.Rate, req.Now
			case was.Events > 0 && req.Now.Sub(now[l.EndpointID]) < 5*time.Second:
				req.Lanes[i].Rate = webhook.Rate{} // not exceeded, as it is new
			}
		}
	}}
}

// claimRoundsRateDown lets a rate have what its interval, rounded down to the nanosecond, would give.
func claimRoundsRateDown(s full) full {
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		for i := range req.Lanes {
			if r := &req.Lanes[i].Rate; r.Events > 0 && r.Per > 0 && r.Per%time.Duration(r.Events) > 0 {
				r.Per, r.Events, r.Burst = r.Per/time.Duration(r.Events), 1, max(r.Burst, 1)
			}
		}
	}}
}

// completeCountsOurs counts each attempt that is recorded.
func completeCountsOurs(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i := range req.Outcomes {
			if o := &req.Outcomes[i]; o.Next == webhook.Queued && o.Attempt != nil {
				o.Next = webhook.RetryScheduled
			}
		}
		return s.Complete(ctx, req)
	}}
}

// completeForgetsOurs records no attempt that does not count.
func completeForgetsOurs(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i := range req.Outcomes {
			if o := &req.Outcomes[i]; o.Next == webhook.Queued {
				o.Attempt = nil
			}
		}
		return s.Complete(ctx, req)
	}}
}

// completeWakesNow says that what it woke is due now.
func completeWakesNow(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		res, err := s.Complete(ctx, req)
		if err == nil {
			for i := range res.Woken {
				res.Woken[i].Earliest = req.Now
			}
		}
		return res, err
	}}
}

// completeWakesAll tells of a lane for each outcome.
func completeWakesAll(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		res, err := s.Complete(ctx, req)
		if err == nil {
			for _, o := range req.Outcomes {
				res.Woken = append(res.Woken, webhook.Lane{LaneID: webhook.LaneID{EndpointID: o.EndpointID, Class: webhook.Retry}, Earliest: req.Now})
			}
		}
		return res, err
	}}
}

// claimLooksAtFew looks at four times its limit of those that wait behind an ordering key, claim after claim.
func claimLooksAtFew(s full) full {
	return &fewLooker{full: s, seen: map[string]int{}, waits: map[string]int{}}
}

type fewLooker struct {
	full
	mu    sync.Mutex
	waits map[string]int // ordered deliveries of an endpoint
	seen  map[string]int
}

func (b *fewLooker) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	b.mu.Lock()
	for _, ev := range req.Events {
		for _, d := range ev.Deliveries {
			if d.OrderingKey != "" {
				b.waits[d.EndpointID]++
			}
		}
	}
	b.mu.Unlock()
	return b.full.Enqueue(ctx, req)
}

func (b *fewLooker) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	b.mu.Lock()
	blind := false
	for _, l := range req.Lanes {
		if b.waits[l.EndpointID] > 1000 { // else it is not worth the trouble
			b.seen[l.EndpointID] += 4 * req.Limit
			blind = blind || b.seen[l.EndpointID] < b.waits[l.EndpointID]
		}
	}
	b.mu.Unlock()
	if !blind {
		return b.full.Claim(ctx, req)
	}
	res := &webhook.ClaimResult{Lanes: make([]webhook.LaneStatus, len(req.Lanes))}
	for i := range res.Lanes {
		res.Lanes[i].More = true
	}
	return res, nil
}
