package storetest

import (
	"context"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// brokenRedeliver wraps Redeliver; before changes the request, after the result. Either may be nil.
type brokenRedeliver struct {
	full
	before func(req *webhook.RedeliverRequest)
	after  func(res *webhook.RedeliverResult)
}

func (b brokenRedeliver) Redeliver(ctx context.Context, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	own := *req
	own.Deliveries = slices.Clone(req.Deliveries)
	if req.Step != nil {
		st := *req.Step
		own.Step = &st
	}
	if b.before != nil {
		b.before(&own)
	}
	res, err := b.full.Redeliver(ctx, &own)
	if err == nil && b.after != nil {
		b.after(res)
	}
	return res, err
}

// eachRedelivery is a before that changes each delivery.
func eachRedelivery(change func(*webhook.Redelivery)) func(*webhook.RedeliverRequest) {
	return func(req *webhook.RedeliverRequest) {
		for i := range req.Deliveries {
			change(&req.Deliveries[i])
		}
	}
}

func redeliverForgetsSource(s full) full {
	return brokenRedeliver{full: s, before: eachRedelivery(func(d *webhook.Redelivery) { d.ReplayOf = "" })}
}

func redeliverForgetsReplay(s full) full {
	return brokenRedeliver{full: s, before: eachRedelivery(func(d *webhook.Redelivery) { d.Replay = "x" })}
}

func redeliverAlways(s full) full {
	return brokenRedeliver{full: s, before: eachRedelivery(func(d *webhook.Redelivery) { d.Lacking = time.Time{} })}
}

func redeliverLacksTheNew(s full) full {
	return brokenRedeliver{full: s, before: eachRedelivery(func(d *webhook.Redelivery) {
		if !d.Lacking.IsZero() {
			d.Lacking = d.Lacking.Add(time.Hour)
		}
	})}
}

func redeliverDryWrites(s full) full {
	return brokenRedeliver{full: s, before: func(req *webhook.RedeliverRequest) {
		if req.Step == nil {
			req.DryRun = false
		}
	}}
}

func redeliverMixesUp(s full) full {
	return brokenRedeliver{full: s, after: func(res *webhook.RedeliverResult) { slices.Reverse(res.Deliveries) }}
}

func stepForgetsCounts(s full) full {
	return brokenRedeliver{full: s, before: func(req *webhook.RedeliverRequest) {
		if req.Step != nil {
			req.Step.Matched, req.Step.PassedOver = 0, 0
		}
	}}
}

func stepForgetsCursor(s full) full {
	return brokenRedeliver{full: s, before: func(req *webhook.RedeliverRequest) {
		if req.Step != nil {
			req.Step.Cursor = ""
		}
	}}
}

func stepNeverDone(s full) full {
	return brokenRedeliver{full: s, before: func(req *webhook.RedeliverRequest) {
		if req.Step != nil {
			req.Step.Done = false
		}
	}}
}

func stepDueNow(s full) full {
	return brokenRedeliver{full: s, before: func(req *webhook.RedeliverRequest) {
		if req.Step != nil {
			req.Step.DueAt = req.Now
		}
	}}
}

// looseSteps makes the deliveries and then does the step, in two transactions.
type looseSteps struct{ full }

func stepApart(s full) full { return looseSteps{s} }

func (b looseSteps) Redeliver(ctx context.Context, req *webhook.RedeliverRequest) (*webhook.RedeliverResult, error) {
	if req.Step == nil || req.DryRun {
		return b.full.Redeliver(ctx, req)
	}
	res, err := b.full.Redeliver(ctx, &webhook.RedeliverRequest{Now: req.Now, Deliveries: req.Deliveries})
	if err != nil {
		return nil, err
	}
	st := *req.Step
	for _, status := range res.Deliveries {
		if status != webhook.Redelivered {
			st.PassedOver++
		}
	}
	step, err := b.full.Redeliver(ctx, &webhook.RedeliverRequest{Now: req.Now, Step: &st})
	if err == nil {
		if res.Step = step.Step; res.Step != webhook.Applied {
			res.Deliveries = nil
		}
	}
	return res, err
}

// brokenSources wraps ReplaySources.
type brokenSources struct {
	full
	before func(req *webhook.ReplaySourcesRequest)
	after  func(res *webhook.ReplaySourcesResult)
}

func (b brokenSources) ReplaySources(ctx context.Context, req *webhook.ReplaySourcesRequest) (*webhook.ReplaySourcesResult, error) {
	own := *req
	if b.before != nil {
		b.before(&own)
	}
	res, err := b.full.ReplaySources(ctx, &own)
	if err == nil && b.after != nil {
		b.after(res)
	}
	return res, err
}

func sourcesIgnoreBefore(s full) full {
	return brokenSources{full: s, before: func(req *webhook.ReplaySourcesRequest) { req.Before = at(10000 * time.Hour) }}
}

func sourcesIgnoreTo(s full) full {
	return brokenSources{full: s, before: func(req *webhook.ReplaySourcesRequest) { req.To = "" }}
}

func sourcesIgnoreType(s full) full {
	return brokenSources{full: s, before: func(req *webhook.ReplaySourcesRequest) { req.Filter.Type = "" }}
}

func sourcesIgnoreTenant(s full) full {
	return brokenSources{full: s, before: func(req *webhook.ReplaySourcesRequest) { req.Filter.Tenant = nil }}
}

func sourcesEndEarly(s full) full {
	return brokenSources{full: s, after: func(res *webhook.ReplaySourcesResult) {
		if len(res.Sources) == 0 {
			res.Next = ""
		}
	}}
}

func sourcesUnbounded(s full) full {
	return brokenSources{full: s, before: func(req *webhook.ReplaySourcesRequest) {
		if req.Examine > 0 {
			req.Examine = 1000
		}
	}}
}

// sourcesAnyDelivery gives every delivery that has ended, also where a later one counts instead.
type sourcesAnyDelivery struct{ full }

func sourcesIgnoreLater(s full) full { return sourcesAnyDelivery{s} }

func (b sourcesAnyDelivery) ReplaySources(ctx context.Context, req *webhook.ReplaySourcesRequest) (*webhook.ReplaySourcesResult, error) {
	if req.Events || req.Filter.State == webhook.Unmatched || req.Limit < 1 || req.Examine < 1 {
		return b.full.ReplaySources(ctx, req)
	}
	list, err := b.full.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: req.Before, EndpointID: req.Filter.Endpoint, After: req.After, Limit: req.Examine})
	if err != nil {
		return nil, err
	}
	res := &webhook.ReplaySourcesResult{Next: list.Next}
	for _, d := range list.Deliveries {
		rec, err := b.full.GetEvent(ctx, d.EventID)
		if err != nil {
			return nil, err
		}
		if req.To != "" && d.ID >= req.To {
			res.Next = ""
			break
		}
		if d.State.Final() && d.CreatedAt.Before(req.Before) && req.Filter.Match(&d, &rec.Event) {
			res.Sources = append(res.Sources, webhook.ReplaySource{ID: d.ID, EventID: d.EventID, Type: rec.Event.Type, Tenant: rec.Event.Tenant, EndpointID: d.EndpointID})
			if len(res.Sources) == req.Limit {
				res.Next = d.ID
				break
			}
		}
	}
	return res, nil
}

// brokenClaimReplay wraps ClaimReplay.
type brokenClaimReplay struct {
	full
	claim func(ctx context.Context, s full, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error)
}

func (b brokenClaimReplay) ClaimReplay(ctx context.Context, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
	own := *req
	return b.claim(ctx, b.full, &own)
}

func replayClaimForgetsLease(s full) full {
	return brokenClaimReplay{s, func(ctx context.Context, s full, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
		req.Lease = 0
		return s.ClaimReplay(ctx, req)
	}}
}

func replayClaimSameToken(s full) full {
	return brokenClaimReplay{s, func(ctx context.Context, s full, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
		res, err := s.ClaimReplay(ctx, req)
		if err == nil && res.Replay != nil {
			res.Token = 1
		}
		return res, err
	}}
}

func replayClaimForgetsNext(s full) full {
	return brokenClaimReplay{s, func(ctx context.Context, s full, req *webhook.ClaimReplayRequest) (*webhook.ClaimReplayResult, error) {
		res, err := s.ClaimReplay(ctx, req)
		if err == nil {
			res.Next = time.Time{}
		}
		return res, err
	}}
}

// brokenPutReplay changes what is stored.
type brokenPutReplay struct {
	full
	change func(r *webhook.Replay)
}

func (b brokenPutReplay) PutReplay(ctx context.Context, r webhook.Replay) error {
	b.change(&r)
	return b.full.PutReplay(ctx, r)
}

func replayForgetsTenant(s full) full {
	return brokenPutReplay{s, func(r *webhook.Replay) { r.Filter.Tenant = nil }}
}

func replayDueAtOnce(s full) full {
	return brokenPutReplay{s, func(r *webhook.Replay) {
		if r.State == webhook.ReplayRunning {
			r.DueAt = time.Time{}
		}
	}}
}

// brokenChangeReplay changes the request.
type brokenChangeReplay struct {
	full
	change func(ctx context.Context, s full, req *webhook.ChangeReplayRequest) (webhook.Replay, error)
}

func (b brokenChangeReplay) ChangeReplay(ctx context.Context, req *webhook.ChangeReplayRequest) (webhook.Replay, error) {
	own := *req
	return b.change(ctx, b.full, &own)
}

// replayPauseLetsStepsGoOn leaves the replay as it is until its step is done.
func replayPauseLetsStepsGoOn(s full) full {
	return brokenChangeReplay{s, func(ctx context.Context, s full, req *webhook.ChangeReplayRequest) (webhook.Replay, error) {
		r, err := s.GetReplay(ctx, req.ID)
		if err == nil && r.State == webhook.ReplayRunning && r.DueAt.After(req.Now) && req.State == webhook.ReplayPaused && r.Filter.Endpoint == "" {
			return r, nil
		}
		return s.ChangeReplay(ctx, req)
	}}
}

func replayResumesLater(s full) full {
	return brokenChangeReplay{s, func(ctx context.Context, s full, req *webhook.ChangeReplayRequest) (webhook.Replay, error) {
		if req.State == webhook.ReplayRunning {
			req.Now = req.Now.Add(time.Minute)
		}
		return s.ChangeReplay(ctx, req)
	}}
}
