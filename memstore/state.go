package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// PutStates is [webhook.StateStore.PutStates].
func (s *Store) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkStates(req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &webhook.PutStatesResult{States: make([]webhook.OutcomeStatus, len(req.States))}
	for i := range req.States {
		if !s.putState(&req.States[i], s.stateVersion+1) {
			res.States[i] = webhook.Stale
			continue
		}
		res.Version = s.stateVersion + 1
	}
	s.stateVersion = max(s.stateVersion, res.Version)
	return res, nil
}

func checkStates(req *webhook.PutStatesRequest) error {
	seen := make(map[string]bool, len(req.States))
	for i := range req.States {
		in := &req.States[i]
		switch {
		case in.EndpointID == "":
			return invalid("put states", "EndpointID", "missing")
		case seen[in.EndpointID]:
			return invalid("put states", "States", fmt.Sprintf("endpoint %q is there twice", in.EndpointID))
		case len(in.Doc) > webhook.MaxStateDoc:
			return invalid("put states", "Doc", fmt.Sprintf("of endpoint %q has %d bytes, at most %d", in.EndpointID, len(in.Doc), webhook.MaxStateDoc))
		case in.Hold != nil && in.Unhold:
			return invalid("put states", "Unhold", fmt.Sprintf("of endpoint %q is set together with Hold", in.EndpointID))
		}
		seen[in.EndpointID] = true
	}
	return nil
}

// putState stores a state under a version unless it is stale, and reports whether it did. The caller holds s.mu.
func (s *Store) putState(in *webhook.NewState, version int64) bool {
	var have int64
	if ep := s.endpoints[in.EndpointID]; ep != nil {
		have = ep.version
	}
	if have != in.Version {
		return false
	}
	ep := s.endpoint(in.EndpointID)
	ep.doc, ep.notBefore = nil, micro(in.NotBefore)
	if len(in.Doc) > 0 {
		ep.doc = bytes.Clone(in.Doc)
	}
	switch {
	case in.Hold != nil:
		s.setHold(ep, in.Hold)
	case in.Unhold:
		s.endHold(ep)
	}
	s.stateChanged(ep, version)
	return true
}

// stateChanged gives the state of ep a version. The caller holds s.mu.
func (s *Store) stateChanged(ep *endpointState, version int64) {
	s.states.remove(ep)
	ep.version = version
	s.states.insert(ep)
}

func statesByVersion(a, b *endpointState) int {
	return cmp.Or(cmp.Compare(a.version, b.version), strings.Compare(a.id, b.id))
}

// StateChanges is [webhook.StateStore.StateChanges]. It costs as much as there are changes.
func (s *Store) StateChanges(ctx context.Context, since int64) (*webhook.StateChanges, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if since > s.stateVersion {
		since = 0
	}
	res := &webhook.StateChanges{Version: s.stateVersion}
	for ep := range s.states.from(&endpointState{version: since + 1}) {
		res.States = append(res.States, ep.state())
	}
	slices.SortFunc(res.States, func(a, b webhook.EndpointState) int { return strings.Compare(a.EndpointID, b.EndpointID) })
	return res, nil
}

// state is what the caller of the store gets to see of e. The caller holds the lock.
func (e *endpointState) state() webhook.EndpointState {
	st := webhook.EndpointState{EndpointID: e.id, Version: e.version, Doc: bytes.Clone(e.doc), NotBefore: e.notBefore}
	if e.hold != nil {
		status := e.hold.status(e.id)
		st.Hold = &status
	}
	return st
}
