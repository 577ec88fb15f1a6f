package sqlstore

import (
	"context"
	"errors"

	"github.com/signalpost/webhook"
)

var errTODO = errors.New("not yet written")

func (s *Store) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	return nil, errTODO
}
func (t *Tx) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	return nil, errTODO
}
func (s *Store) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	return nil, errTODO
}
func (s *Store) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	return nil, errTODO
}
func (s *Store) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	return nil, errTODO
}
func (s *Store) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	return nil, errTODO
}
func (s *Store) Hold(ctx context.Context, req *webhook.HoldRequest) error { return errTODO }
func (s *Store) Unhold(ctx context.Context, endpointID string) error      { return errTODO }
func (s *Store) ReleaseKey(ctx context.Context, req *webhook.ReleaseKeyRequest) (bool, error) {
	return false, errTODO
}
