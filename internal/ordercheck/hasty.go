package ordercheck

import (
	"context"

	"github.com/signalpost/webhook"
)

// Hasty is a store that ends deliveries when they are claimed, so that the next of a key is let go too early: a Log must find fault with it.
type Hasty struct{ webhook.Store }

// Claim implements [webhook.Store].
func (h Hasty) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	res, err := h.Store.Claim(ctx, req)
	if err != nil || len(res.Deliveries) == 0 {
		return res, err
	}
	end := &webhook.CompleteRequest{Now: req.Now}
	for _, c := range res.Deliveries {
		end.Outcomes = append(end.Outcomes, webhook.Outcome{
			EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Delivered,
		})
	}
	_, err = h.Store.Complete(ctx, end)
	return res, err
}

// Complete implements [webhook.Store]; all has been completed already.
func (h Hasty) Complete(_ context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	return &webhook.CompleteResult{Outcomes: make([]webhook.OutcomeStatus, len(req.Outcomes))}, nil
}
