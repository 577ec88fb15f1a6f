package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/signalpost/webhook"
)

// Classes of queue rows beyond [webhook.Fresh] and [webhook.Retry]. They are of no lane.
const (
	classParked  = 2 // ordered, waits for the end of its predecessor, which then gives it back its lane
	classBlocked = 3 // a dead letter that its ordering key waits behind: BlockBehindDeadLetter
	classHeld    = 4 // the same, and the key is on hold: HoldKey
	classEnded   = 5 // as classParked, of what End has ended: out of the way of those that count the parked
)

// earliestOf is when the first row of a lane may be claimed, or its lease ends, in PostgreSQL: a lease leaves a row where it stands. What is leased
// is looked at up to the first that is not. Without first, the due time of the lane's first row, the planner expects most of the lane there, and
// compiles the statement for longer than it runs. IS NULL it would judge by statistics: gathered when all was leased, they make it sort the lane.
func earliestOf(endpoint, class, first string) string {
	of := "endpoint_id = " + endpoint + " AND class = " + class + " AND due_at >= " + first
	return `(SELECT least(free.at, (SELECT min(leased_until) FROM {prefix}queue
		WHERE ` + of + ` AND due_at < coalesce(free.at, 9223372036854775807)))
	FROM (SELECT (SELECT due_at FROM {prefix}queue WHERE ` + of + ` AND coalesce(leased_until, -1) < 0 ORDER BY due_at LIMIT 1) AS at OFFSET 0) free)`
}

// Lanes implements [webhook.Store].
func (s *Store) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	limit := max(req.Limit, 1)
	// One more than asked for tells whether there is a next page.
	lanes, err := s.readLanes(ctx, req.After, limit+1)
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: lanes: %w", err)
	}
	res := &webhook.LanesResult{Lanes: lanes}
	if len(lanes) > limit {
		res.Lanes = lanes[:limit]
		res.Next = lanes[limit-1].LaneID
	}
	return res, nil
}

func (s *Store) readLanes(ctx context.Context, after webhook.LaneID, limit int) ([]webhook.Lane, error) {
	class := int64(after.Class)
	if after.EndpointID == "" {
		class = -1
	}
	args := []any{after.EndpointID, class, limit}
	if s.dialect == MySQL {
		args = []any{after.EndpointID, class, after.EndpointID, limit}
	}
	rows, err := s.db.QueryContext(ctx, s.sql.lanes, args...)
	if err != nil {
		return nil, err
	}
	var lanes []webhook.Lane
	err = eachRow(rows, func(rows *sql.Rows) error {
		var lane webhook.Lane
		var earliest, from int64
		if err := rows.Scan(&lane.EndpointID, &lane.Class, &earliest, &from); err != nil {
			return err
		}
		lane.Earliest, lane.From = fromMicros(earliest), fromMicros(from)
		lanes = append(lanes, lane)
		return nil
	})
	return lanes, err
}
