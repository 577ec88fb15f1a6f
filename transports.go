package webhook

import "net/http"

// transports are the pools of connections of endpoints whose TLS or proxy differ from the dispatcher's.
type transports struct {
	d *Dispatcher
}

func newTransports(d *Dispatcher) *transports { return &transports{d: d} }

// get returns the transport for an endpoint's attempts, without connecting; nil: the dispatcher's own.
func (t *transports) get(_ *Endpoint) (http.RoundTripper, error) { return nil, nil }

// keep closes the pools that no route of a table uses any more. It is called when a table has become the current one.
func (t *transports) keep(_ *routeTable) {}

// closeIdle closes connections that no attempt uses, at the end of Run.
func (t *transports) closeIdle() {}
