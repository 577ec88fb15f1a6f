package webhook_test

import (
	"fmt"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// What a send allocates, with what memory keeps of the event and its delivery, and what one more endpoint adds.
func TestSendAllocations(t *testing.T) {
	payload := make([]byte, 1<<10)
	for endpoints, most := range map[int]float64{1: 32, 5: 43} {
		var eps []webhook.Endpoint
		for i := range endpoints {
			eps = append(eps, endpoint(t, fmt.Sprint("ep", i)))
		}
		d := sender(t, memstore.New(), eps...)
		got := testing.AllocsPerRun(500, func() {
			if _, err := d.Send(t.Context(), webhook.Event{Type: "x", Payload: payload}); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%d endpoints: %v allocations", endpoints, got)
		if got > most && !webhook.RaceDetector {
			t.Errorf("%d endpoints: %v allocations a send, want at most %v", endpoints, got, most)
		}
	}
}
