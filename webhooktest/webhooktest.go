// Package webhooktest is for tests of services that send or receive webhooks. It imports the standard library and package webhook alone.
//
// # Receiving
//
// [SignedRequest] makes a request as a system sends it, signed by the profile that is given, for a handler under test. [Stale], [Tampered]
// and others make it one that must be refused.
//
// # Sending
//
// A [Network] is one in memory: no sockets, no DNS, no ports. A [Receiver] on it answers by a script of [Step]s, verifies signatures, and
// remembers what it got. [Dispatcher] makes a running dispatcher that sends over the network. Everything works within testing/synctest,
// where a retry schedule of days passes in milliseconds:
//
//	func TestOutage(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			net := webhooktest.NewNetwork(t)
//			shop := net.Receiver("https://shop.example/hooks", webhooktest.Fail(503).For(5*time.Hour), webhooktest.OK())
//			hooks := webhooktest.Dispatcher(t, net, memstore.New(), nil)
//			id, err := hooks.Send(t.Context(), webhook.Event{Type: "order_create"})
//			...
//			time.Sleep(8 * time.Hour) // virtual; Gett's last retry comes after 7 h 12 min
//			shop.RequireOnce(t, id)
//		})
//	}
//
// A network and its dispatcher are made within the bubble that they are used in. They also work without synctest, in real time, with real
// stores.
//
// The requests go through the dispatcher's own transport, TLS included, and its guard against private addresses stays on: a name of the network is
// at a public address unless [Network.Resolve] says otherwise.
package webhooktest
