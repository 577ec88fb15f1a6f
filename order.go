package webhook

import (
	"context"
	"errors"
	"fmt"
)

// errNoBlockedKeys: the store is no [LifeStore].
var errNoBlockedKeys = errors.New("the store does not tell which ordering keys are blocked")

// wakeNext makes the feed ask for what the ends of a batch let go: exactly that where the store tells of it. Where no store ever
// told, it may be anything that was sent after what ended, and most of what the feed then asks for is not there.
func (c *completer) wakeNext(batch []finished, res *CompleteResult) {
	woken := len(res.Woken) > 0
	c.tells = c.tells || woken
	for _, l := range res.Woken {
		c.d.feed.hint(l.LaneID, l.Earliest)
	}
	if !c.tells {
		for i, f := range batch {
			if res.Outcomes[i] == Applied && f.item.Delivery.OrderingKey != "" && f.outcome.letsGo() {
				c.d.feed.hint(LaneID{f.outcome.EndpointID, Fresh}, f.item.Delivery.CreatedAt)
				woken = true
			}
		}
	}
	if woken {
		c.d.feed.kick()
	}
}

// letsGo reports whether an ordered delivery's outcome lets the next of its key go.
func (o *Outcome) letsGo() bool {
	return o.Next.Final() && (o.Next != DeadLetter || o.BehindDeadLetter == SkipDeadLetter)
}

// BlockedKeys lists the ordering keys of an endpoint that wait behind a dead letter, the one blocked longest first. [Dispatcher.ReleaseKey]
// lets one go on. An endpoint with very many of them is better read page by page, with [LifeStore.BlockedKeys].
func (d *Dispatcher) BlockedKeys(ctx context.Context, endpointID string) ([]BlockedKey, error) {
	fail := func(err error) ([]BlockedKey, error) {
		return nil, opError(fmt.Sprintf("endpoint %q", endpointID), err)
	}
	store, ok := d.store.(LifeStore)
	if !ok {
		return fail(errNoBlockedKeys)
	}
	var keys []BlockedKey
	req := &BlockedKeysRequest{EndpointID: endpointID, Limit: blockedPage}
	for {
		res, err := store.BlockedKeys(ctx, req)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return fail(err)
		}
		keys = append(keys, res.Keys...)
		if res.Next == "" || len(res.Keys) == 0 {
			return keys, nil
		}
		req.After = res.Next
	}
}

// blockedPage is how many blocked keys are read at a time.
const blockedPage = 1000
