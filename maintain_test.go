package webhook_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
)

// Keys that a busy receiver leaves behind are forgotten as fast as they expire, and not a thousand a minute.
func TestExpiredKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		now := time.Now()
		begin := func(i int) *webhook.BeginResult {
			t.Helper()
			res, err := r.store.Begin(t.Context(), &webhook.BeginRequest{Now: now, Scope: "gett", Key: fmt.Sprint(i), Hold: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		for i := range 20_000 {
			begin(i)
		}
		time.Sleep(3 * time.Minute)
		req := &webhook.PruneRequest{Now: time.Now(), DedupeKeys: true, Limit: 20_000}
		if res, err := r.store.Prune(t.Context(), req); err != nil || res.DedupeKeys != 0 {
			t.Errorf("%+v, %v: want none to be left", res, err)
		}
	})
}
