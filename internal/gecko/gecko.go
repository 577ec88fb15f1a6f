// Package gecko knows TradeGecko's names of events. Its documentation has them in the singular, but for its sample of a notification, which has
// "fulfillments.create": what arrives may be either.
package gecko

import "strings"

// Name is the singular of an event's name, as "fulfillment.create" of either. Of resources that TradeGecko does not name nothing is changed.
func Name(event string) string {
	resource, action, found := strings.Cut(event, ".")
	single := singular(resource)
	if !found || single == resource {
		return event
	}
	return single + "." + action
}

func singular(resource string) string {
	switch resource {
	case "addresses":
		return "address"
	case "companies":
		return "company"
	case "accounts", "channels", "contacts", "document_themes", "fulfillments", "fulfillment_returns", "invoices", "locations", "orders",
		"payments", "products", "procurements", "purchase_orders", "stock_adjustments", "stock_transfers", "variants", "images":
		return strings.TrimSuffix(resource, "s")
	}
	return resource
}
