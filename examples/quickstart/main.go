// Quickstart shows the main job on one machine: a shop sends Gett's order events to a receiver that is down at first, and
// the receiver gets each of them once, whatever the network and strangers do.
//
// It uses a SQLite file in a temporary folder and the loopback interface, takes a few seconds, checks its own figures and
// exits with status 1 if one is wrong.
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"

	_ "modernc.org/sqlite" // the library itself imports no driver
)

//go:embed events.json
var builtIn []byte

func main() {
	file := flag.String("events", "", "JSON file with an array of event bodies; default: the six of examples/quickstart/events.json")
	flag.Parse()
	log.SetFlags(0)
	ok, err := run(context.Background(), *file)
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) (ok bool, err error) {
	bodies, err := readEvents(file)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)

	// One secret, known to both sides.
	secret := webhook.GenerateSecret()
	receiverStore, err := openStore(ctx, filepath.Join(dir, "receiver.db"))
	if err != nil {
		return false, err
	}
	rcv, err := startReceiver(receiverStore, secret, 2)
	if err != nil {
		return false, err
	}
	defer rcv.close()
	shop, err := startShop(ctx, filepath.Join(dir, "shop.db"), rcv.url, secret)
	if err != nil {
		return false, err
	}

	fmt.Printf("1. The shop sends %d events. The receiver is down for the first %d requests.\n\n", len(bodies), rcv.failures)
	var ids []string
	for _, body := range bodies {
		id, err := shop.hooks.Send(ctx, webhook.Event{Type: eventType(body), Payload: body})
		if err != nil {
			return false, err
		}
		ids = append(ids, id)
	}
	if err := shop.awaitDelivered(len(ids), 8*time.Second); err != nil {
		return false, err
	}

	duplicate, forged, err := intrude(rcv.url, bodies[0], secret)
	if err != nil {
		return false, err
	}
	if err := shop.close(); err != nil {
		return false, err
	}
	return summary(ctx, shop, rcv, ids, duplicate, forged)
}

// intrude sends what a network or a stranger may: the same request again, and a forged one.
func intrude(url string, body []byte, secret webhook.Secret) (duplicate, forged answer, err error) {
	fmt.Printf("\n2. The first request comes again: a duplicate.\n\n")
	if duplicate, err = post(url, body, secret); err != nil {
		return duplicate, forged, err
	}
	fmt.Printf("   duplicate     answered %d from memory: %v; the handler did not run\n", duplicate.status, duplicate.replayed)

	fmt.Printf("\n3. A stranger sends an order without knowing the secret.\n\n")
	if forged, err = post(url, body, webhook.GenerateSecret()); err != nil {
		return duplicate, forged, err
	}
	fmt.Printf("   forgery       refused with %d\n", forged.status)
	return duplicate, forged, nil
}

func readEvents(file string) ([]json.RawMessage, error) {
	text := builtIn
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	var bodies []json.RawMessage
	if err := json.Unmarshal(text, &bodies); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(bodies) == 0 {
		return nil, fmt.Errorf("%s: no events", file)
	}
	return bodies, nil
}

func eventType(body []byte) string {
	var head struct{ Type string }
	if err := json.Unmarshal(body, &head); err != nil {
		return ""
	}
	return head.Type
}

func openStore(ctx context.Context, path string) (*sqlstore.Store, error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, sqlstore.SQLite, nil)
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}

// quiet keeps the library's own log out of the story.
var quiet = slog.New(slog.DiscardHandler)

// summary compares what the stores say with what must be true.
func summary(ctx context.Context, shop *shop, rcv *receiver, ids []string, duplicate, forged answer) (bool, error) {
	delivered, attempts, late := 0, 0, 0
	for _, id := range ids {
		res, err := shop.store.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id})
		if err != nil {
			return false, err
		}
		for _, d := range res.Deliveries {
			log, err := shop.store.ListAttempts(ctx, d.ID)
			if err != nil {
				return false, err
			}
			attempts += len(log)
			if len(log) > 1 {
				late++
			}
			if d.State == webhook.Delivered {
				delivered++
			}
		}
	}
	fmt.Printf("\nSummary\n\n")
	ok := true
	check := func(what string, got, want int) {
		mark := "ok"
		if got != want {
			mark, ok = fmt.Sprintf("WRONG, want %d", want), false
		}
		fmt.Printf("   %-46s %3d  %s\n", what, got, mark)
	}
	check("events sent", len(ids), len(ids))
	check("delivered", delivered, len(ids))
	check("of these after a retry", late, rcv.failures)
	check("attempts recorded", attempts, len(ids)+rcv.failures)
	check("handler runs", rcv.runs(), len(ids))
	check("duplicate: status", duplicate.status, 200)
	check("duplicate: answered from memory", number(duplicate.replayed), 1)
	check("forgery: status", forged.status, 401)
	check("open deliveries", len(ids)-delivered, 0)
	return ok, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
