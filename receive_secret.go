package webhook

import (
	"context"
	"fmt"
	"log/slog"
)

// oldSecret tells that a request needed a former secret. A hook that panics is logged, and the request goes on.
func (h *receiver) oldSecret(ctx context.Context, x *received) {
	if h.opts.Trace == nil || h.opts.Trace.OldSecret == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			h.log(ctx, slog.LevelError, "webhook: panic in Trace.OldSecret", x, nil, slog.String("panic", fmt.Sprint(p)))
		}
	}()
	h.opts.Trace.OldSecret(ctx, OldSecretInfo{
		Scheme: x.verification.Scheme, Scope: x.scope, Secret: x.verification.Secret, EventID: x.verification.EventID,
	})
}
