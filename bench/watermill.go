package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	whttp "github.com/ThreeDotsLabs/watermill-http/v2/pkg/http"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// watermillPeer is Watermill: its SQL publisher and subscriber for what waits, its HTTP publisher to post. One subscriber reads one
// message after the other: that is its order, and its limit.
type watermillPeer struct {
	db      *sql.DB
	in      *wsql.Publisher
	sub     *wsql.Subscriber
	out     *whttp.Publisher
	post    *poster
	url     string
	acked   atomic.Int64
	failed  chan error
	stopped chan struct{}
}

const (
	watermillTopic = "hooks"
	watermillPoll  = 10 * time.Millisecond // its default of 1 s would be the latency
)

// watermillSchema keeps bodies as bytes: JSON columns keep text as it is, but are checked.
var watermillSchema = wsql.DefaultPostgreSQLSchema{GeneratePayloadType: func(string) string { return "BYTEA" }}

func openWatermill(server *pgServer) (e *entry, stop func() error, err error) {
	db, err := server.database("watermill")
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxIdleConns(2 * singleSenders)
	w := &watermillPeer{db: db}
	w.in, err = wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: watermillSchema}, watermill.NopLogger{})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return &entry{
		name: watermillRow, slowN: 200, contender: w,
		gauges: server.gauges("watermill", flushIdle(db, 2*singleSenders)),
	}, db.Close, nil
}

func (w *watermillPeer) open(url string) (err error) {
	w.url, w.post = url+"/0", newPoster(4)
	w.acked.Store(0)
	w.out, err = whttp.NewPublisher(whttp.PublisherConfig{
		Client:             w.post.client,
		MarshalMessageFunc: func(url string, m *message.Message) (*http.Request, error) { return w.post.request(url, m.Payload) },
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	w.sub, err = wsql.NewSubscriber(w.db, wsql.SubscriberConfig{
		SchemaAdapter: watermillSchema, OffsetsAdapter: wsql.DefaultPostgreSQLOffsetsAdapter{},
		PollInterval: watermillPoll,
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	return w.sub.SubscribeInitialize(watermillTopic) // publishers that make the tables get in each other's way
}

func (w *watermillPeer) send(number int) error {
	return w.in.Publish(watermillTopic, message.NewMessage(watermill.NewUUID(), makePayload(number)))
}

func (w *watermillPeer) fill(first, n int) error {
	const each = 500
	for i := 0; i < n; i += each {
		var messages []*message.Message
		for j := range min(each, n-i) {
			messages = append(messages, message.NewMessage(watermill.NewUUID(), makePayload(first+i+j)))
		}
		if err := w.in.Publish(watermillTopic, messages...); err != nil {
			return err
		}
	}
	return nil
}

func (w *watermillPeer) run() error {
	messages, err := w.sub.Subscribe(context.Background(), watermillTopic)
	if err != nil {
		return err
	}
	w.failed, w.stopped = make(chan error, 1), make(chan struct{})
	go func() {
		defer close(w.stopped)
		for m := range messages {
			if err := w.out.Publish(w.url, m); err != nil {
				m.Nack()
				select {
				case w.failed <- err:
				default:
				}
				continue
			}
			m.Ack()
			w.acked.Add(1)
		}
	}()
	return nil
}

// await waits for the offset: Watermill writes it once for all that it read at once.
func (w *watermillPeer) await(n int) error {
	if err := awaitCount(&w.acked, int64(n)); err != nil {
		return err
	}
	return awaitTrue(func() (done bool, err error) {
		err = w.db.QueryRow(`SELECT NOT EXISTS (SELECT FROM watermill_hooks m, watermill_offsets_hooks o
			WHERE (m.transaction_id, m."offset") > (o.last_processed_transaction_id, o.offset_acked))`).Scan(&done)
		return done, err
	})
}

func (w *watermillPeer) close() error {
	defer w.post.close()
	if w.stopped == nil {
		return nil
	}
	err := w.sub.Close()
	<-w.stopped
	w.stopped = nil
	select {
	case failed := <-w.failed:
		err = errors.Join(err, failed)
	default:
	}
	return err
}
