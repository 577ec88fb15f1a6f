package sqlstore

import (
	"fmt"

	"github.com/signalpost/webhook"
)

// What an outcome does to the queue row.
const (
	opEnd   = 0 // the delivery is finished: the row goes, or stays as a block
	opRetry = 1 // due again in the Retry lane
	opBack  = 2 // due again in its own lane
)

// Limits of what is said in words, in bytes. They only keep a mistake from filling the database.
const (
	maxReason = 4096
	maxDetail = 4096
	maxKind   = 255
)

// maxEndText is what the attempt that ends a delivery may say, in bytes, to be kept in the delivery's own row: PostgreSQL rewrites
// that in place, without a word to its indexes, as long as it does not grow out of its page.
const maxEndText = 64

// outcomeRow is an outcome as it goes to the database.
type outcomeRow struct {
	place          int // in the request
	id, state      string
	reason         string
	token, dueAt   int64
	op, block      int64
	tried          bool             // with an attempt
	counted        int64            // 1 with an attempt that counts
	attempt        *webhook.Attempt // not nil
	detail, failed string           // of the attempt

	likely bool // see endLikely
	hit    bool // held under its token; the fields below are its queue row's then
	gone   bool // and has been deleted already
	ownRow
}

// ownRow is what a completion needs to know of a queue row.
type ownRow struct {
	endpointID, orderKey string
	seq                  int64
	attempts             int64 // this one included
	class                int64
	oldReason            string
	over                 bool // [Store.End] has ended it: the record is final, and the row goes whatever the outcome says
}

func outcomeRows(req *webhook.CompleteRequest) ([]outcomeRow, error) {
	rows, noAttempt := make([]outcomeRow, len(req.Outcomes)), &webhook.Attempt{}
	for i := range req.Outcomes {
		o := &req.Outcomes[i]
		r := outcomeRow{place: i, id: o.DeliveryID, token: o.Token, state: string(o.Next), reason: words(o.Reason, maxReason), attempt: noAttempt}
		switch {
		case o.Next.Final():
			r.op = opEnd
		case o.Next == webhook.RetryScheduled:
			r.op = opRetry
		case o.Next == webhook.Queued:
			r.op = opBack
		default:
			return nil, &webhook.FieldError{Op: "complete", Field: "Outcome.Next", Reason: fmt.Sprintf("%q is no outcome", o.Next)}
		}
		if o.Next == webhook.DeadLetter {
			switch o.BehindDeadLetter {
			case webhook.SkipDeadLetter:
			case webhook.HoldKey:
				r.block = classHeld
			default:
				r.block = classBlocked
			}
		}
		r.dueAt = micros(req.Now)
		if !o.DueAt.IsZero() {
			r.dueAt = micros(o.DueAt)
		}
		if o.Attempt != nil {
			if r.tried, r.attempt = true, o.Attempt; r.op != opBack {
				r.counted = 1
			}
			r.detail, r.failed = words(o.Attempt.Detail, maxDetail), words(o.Attempt.Error, maxKind)
		}
		if checkText("complete", "Outcome.DeliveryID", r.id, true) != nil {
			r.id = "" // no such delivery can exist
		}
		rows[i] = r
	}
	return rows, nil
}

// blocks says whether the row stays in the queue to block its key.
func (r *outcomeRow) blocks() bool {
	return r.op == opEnd && r.block != 0 && r.orderKey != "" && !r.over
}

// folds says whether the attempt goes into the delivery's row. Most do, which saves a row of the attempt table and its index entry.
func (r *outcomeRow) folds() bool { return r.foldable() && !r.over }

// foldable is folds before it is known whether the record is final already.
func (r *outcomeRow) foldable() bool {
	return r.op == opEnd && r.tried && r.attempt.NextAt.IsZero() && len(r.failed)+len(r.detail)+len(r.attempt.Response) <= maxEndText
}

// Where an attempt goes.
const (
	keptNowhere = 0 // there is none
	keptFolded  = 1 // into the delivery's row
	keptApart   = 2 // into the attempt table
)

func (r *outcomeRow) kept() int64 {
	switch {
	case !r.tried:
		return keptNowhere
	case r.folds():
		return keptFolded
	}
	return keptApart
}

// plain says whether the outcome is the usual one, which has a shorter statement: delivered, by an attempt that folds and says nothing.
func (r *outcomeRow) plain() bool {
	return r.state == string(webhook.Delivered) && r.reason == "" && r.folds() && r.failed == "" && r.detail == "" && r.attempt.Response == nil
}

// attemptArgs are the values of an attempt row, in the order of its columns.
func (r *outcomeRow) attemptArgs(late bool) []any {
	a := r.attempt
	return []any{r.id, r.token, a.Number, a.Status, micros(a.StartedAt), int64(a.Duration), optMicros(a.NextAt), late, r.failed, r.detail, a.Response}
}

// finishArgs are the values of a delivery's row that its end changes, in the order of its columns, and its ID.
func (r *outcomeRow) finishArgs(now int64) []any {
	args := []any{r.state, r.reason, r.attempts, now, nil, nil, nil, nil, nil, nil, nil, nil, r.id}
	if r.folds() {
		a := r.attempt
		copy(args[4:], []any{r.token, a.Number, a.Status, micros(a.StartedAt), int64(a.Duration), r.failed, r.detail, a.Response})
	}
	return args
}

// byDelivery finds outcomes by their delivery: the last one, should there be several.
func byDelivery(rows []outcomeRow) map[string]*outcomeRow {
	byID := make(map[string]*outcomeRow, len(rows))
	for i := range rows {
		byID[rows[i].id] = &rows[i]
	}
	return byID
}
