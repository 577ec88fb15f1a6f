package webhook

import (
	"context"
	"log/slog"
	"net/http"
)

// guard recovers from a panic in a caller's function: a faulty hook must not stop deliveries.
func (d *Dispatcher) guard(hook string) {
	if p := recover(); p != nil {
		d.log.Error("webhook: a hook panicked", slog.String("hook", hook), slog.Any("panic", p))
	}
}

func (d *Dispatcher) traceAttemptStart(ctx context.Context, it *item, number int, header http.Header) (out context.Context) {
	out = ctx
	defer d.guard("AttemptStart")
	got := d.opts.Trace.AttemptStart(ctx, AttemptStartInfo{Event: it.Event, Delivery: it.Delivery, Number: number, Header: header})
	if got != nil {
		out = got
	}
	return out
}

func (d *Dispatcher) traceAttemptDone(ctx context.Context, it *item, a *Attempt, next State) {
	d.logAttempt(ctx, it, a, next)
	if d.opts.Trace.AttemptDone == nil {
		return
	}
	defer d.guard("AttemptDone")
	d.opts.Trace.AttemptDone(ctx, AttemptDoneInfo{Event: it.Event, Delivery: it.Delivery, Attempt: *a, Next: next})
}

// logAttempt tells of failures at Warn, of successes and of what the end of Run cut off at Debug.
func (d *Dispatcher) logAttempt(ctx context.Context, it *item, a *Attempt, next State) {
	level := slog.LevelWarn
	if next == Delivered || next == Queued {
		level = slog.LevelDebug
	}
	if !d.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("event", it.Event.ID), slog.String("endpoint", it.Delivery.EndpointID), slog.String("delivery", it.Delivery.ID),
		slog.Int("attempt", a.Number), slog.Int("status", a.Status), slog.Duration("duration", a.Duration), slog.String("state", string(next)),
	}
	if a.Error != "" {
		attrs = append(attrs, slog.String("error", a.Error), slog.String("detail", a.Detail))
	}
	if !a.NextAt.IsZero() {
		attrs = append(attrs, slog.Time("next", a.NextAt))
	}
	d.log.LogAttrs(ctx, level, "webhook: attempt", attrs...)
}

func (d *Dispatcher) traceClaim(ctx context.Context, info ClaimInfo) {
	if d.opts.Trace.Claim == nil {
		return
	}
	defer d.guard("Claim")
	d.opts.Trace.Claim(ctx, info)
}

// traceStale tells of an outcome that came too late. One without an attempt concerns nobody but the log.
func (d *Dispatcher) traceStale(ctx context.Context, f finished) {
	level := slog.LevelWarn
	if f.outcome.Attempt == nil {
		level = slog.LevelDebug
	}
	d.log.LogAttrs(ctx, level, "webhook: lease lost: another process has taken the delivery over, or it was canceled",
		slog.String("delivery", f.outcome.DeliveryID), slog.String("endpoint", f.outcome.EndpointID))
	if d.opts.Trace.StaleLease == nil {
		return
	}
	defer d.guard("StaleLease")
	d.opts.Trace.StaleLease(ctx, StaleLeaseInfo{Delivery: f.item.Delivery, Attempt: f.outcome.Attempt})
}

func (d *Dispatcher) traceExpired(ctx context.Context, del Delivery, reason string) {
	d.log.LogAttrs(ctx, slog.LevelWarn, "webhook: expired", slog.String("event", del.EventID),
		slog.String("endpoint", del.EndpointID), slog.String("delivery", del.ID), slog.String("reason", reason))
	if d.opts.Trace.Expired == nil {
		return
	}
	defer d.guard("Expired")
	d.opts.Trace.Expired(ctx, ExpiredInfo{Delivery: del, Reason: reason})
}

// traceHealth tells of what is well at Info.
func (d *Dispatcher) traceHealth(ctx context.Context, info HealthInfo) {
	level := slog.LevelWarn
	if info.Kind == HealthChanged && info.To == HealthOK {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("endpoint", info.EndpointID), slog.String("kind", string(info.Kind)), slog.String("from", string(info.From)),
		slog.String("to", string(info.To)), slog.String("reason", info.Reason),
	}
	if !info.DisableAt.IsZero() {
		attrs = append(attrs, slog.Time("disable_at", info.DisableAt))
	}
	d.log.LogAttrs(ctx, level, "webhook: endpoint health", attrs...)
	if d.opts.Trace.Health == nil {
		return
	}
	defer d.guard("Health")
	d.opts.Trace.Health(ctx, info)
}

func (d *Dispatcher) traceReplay(ctx context.Context, r Replay) {
	if d.opts.Trace.Replay == nil {
		return
	}
	defer d.guard("Replay")
	d.opts.Trace.Replay(ctx, ReplayInfo{Replay: r})
}

func (d *Dispatcher) traceDeadLetter(ctx context.Context, f finished) {
	d.log.LogAttrs(ctx, slog.LevelError, "webhook: dead letter", slog.String("event", f.item.Event.ID),
		slog.String("endpoint", f.outcome.EndpointID), slog.String("delivery", f.outcome.DeliveryID), slog.String("reason", f.outcome.Reason))
	if d.opts.Trace.DeadLetter == nil {
		return
	}
	defer d.guard("DeadLetter")
	d.opts.Trace.DeadLetter(ctx, DeadLetterInfo{Event: f.item.Event, Delivery: f.item.Delivery, Reason: f.outcome.Reason})
}
