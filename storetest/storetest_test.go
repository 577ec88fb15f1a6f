package storetest

import (
	"testing"

	"github.com/signalpost/webhook/memstore"
)

func TestMemstore(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		return Harness{Store: memstore.New(), Without: []string{"Tx", "OpenTx"}}
	})
}
