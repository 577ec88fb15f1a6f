package sqlstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

// endpointRow is a row of the table of endpoints.
type endpointRow struct {
	id, tenant, url          string
	types, secrets, settings []byte
	credentials              []byte // nil: none
}

func (r *endpointRow) fields() []any {
	return []any{&r.id, &r.tenant, &r.url, &r.types, &r.secrets, &r.credentials, &r.settings}
}

// endpointSettings is what an endpoint's settings look like in the database: JSON, with fields left out where they are zero.
// It is a format of its own, so that renaming a Go field does not lose what is stored. Durations read as "1m30s".
type endpointSettings struct {
	Profile      string           `json:"profile,omitempty"`
	Schedule     *scheduleSetting `json:"schedule,omitempty"`
	Timeout      duration         `json:"timeout,omitzero"`
	SuccessFrom  int              `json:"success_from,omitempty"`
	SuccessTo    int              `json:"success_to,omitempty"`
	MaxInFlight  int              `json:"max_in_flight,omitempty"`
	RateEvents   int              `json:"rate_events,omitempty"`
	RatePer      duration         `json:"rate_per,omitzero"`
	RateBurst    int              `json:"rate_burst,omitempty"`
	Order        string           `json:"order,omitempty"`
	AllowPrivate bool             `json:"allow_private,omitempty"`
}

type scheduleSetting struct {
	Kind    string     `json:"kind"`
	List    []duration `json:"list,omitempty"`
	First   duration   `json:"first,omitzero"`
	Cap     duration   `json:"cap,omitzero"`
	Retries int        `json:"retries,omitempty"`
	Jitter  float64    `json:"jitter,omitempty"`
}

type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// orderNames are the names of order policies in settings; the default one is not written.
var orderNames = map[webhook.OrderPolicy]string{
	webhook.BlockBehindDeadLetter: "",
	webhook.SkipDeadLetter:        "skip",
	webhook.HoldKey:               "hold",
}

// secretCodec stands between endpoints' secrets and the database. Encryption at rest goes here: plain is a JSON array
// or, of credentials, an object, and what seal returns must begin with neither '[' nor '{', so that all kinds can be told apart and live in one table.
type secretCodec interface {
	seal(endpointID string, plain []byte) ([]byte, error)
	open(endpointID string, sealed []byte) ([]byte, error)
}

// plainSecrets stores secrets as they are.
type plainSecrets struct{}

func (plainSecrets) seal(_ string, plain []byte) ([]byte, error)  { return plain, nil }
func (plainSecrets) open(_ string, sealed []byte) ([]byte, error) { return sealed, nil }

func encodeEndpoint(codec secretCodec, ep *webhook.Endpoint) (row endpointRow, err error) {
	set := endpointSettings{
		Profile: ep.Profile, Timeout: duration(ep.Timeout), SuccessFrom: ep.Success.From, SuccessTo: ep.Success.To,
		MaxInFlight: ep.MaxInFlight, RateEvents: ep.Rate.Events, RatePer: duration(ep.Rate.Per), RateBurst: ep.Rate.Burst,
		Order: orderNames[ep.Order], AllowPrivate: ep.AllowPrivate,
	}
	if sch := ep.Schedule; sch.Kind != "" {
		set.Schedule = &scheduleSetting{Kind: sch.Kind, First: duration(sch.First), Cap: duration(sch.Cap),
			Retries: sch.Retries, Jitter: sch.Jitter}
		for _, d := range sch.List {
			set.Schedule.List = append(set.Schedule.List, duration(d))
		}
	}
	if row.settings, err = json.Marshal(set); err != nil {
		return row, err
	}
	if row.types, err = json.Marshal(ep.Types); err != nil {
		return row, err
	}
	secrets := make([][]byte, 0, len(ep.Secrets)) // base64 in JSON: a secret may hold any bytes
	for _, secret := range ep.Secrets {
		secrets = append(secrets, []byte(secret.Reveal()))
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return row, err
	}
	row.secrets, err = codec.seal(ep.ID, plain)
	return row, err
}

func (r *endpointRow) decode(codec secretCodec) (ep webhook.Endpoint, err error) {
	ep = webhook.Endpoint{ID: r.id, Tenant: r.tenant, URL: r.url}
	if err := json.Unmarshal(r.types, &ep.Types); err != nil {
		return ep, fmt.Errorf("endpoint %q: types: %w", r.id, err)
	}
	if ep.Secrets, err = r.decodeSecrets(codec); err != nil {
		return ep, fmt.Errorf("endpoint %q: secrets: %w", r.id, err)
	}
	var set endpointSettings
	if err := json.Unmarshal(r.settings, &set); err != nil {
		return ep, fmt.Errorf("endpoint %q: settings: %w", r.id, err)
	}
	ep.Profile, ep.Timeout = set.Profile, time.Duration(set.Timeout)
	ep.Success = webhook.SuccessRule{From: set.SuccessFrom, To: set.SuccessTo}
	ep.MaxInFlight = set.MaxInFlight
	ep.Rate = webhook.Rate{Events: set.RateEvents, Per: time.Duration(set.RatePer), Burst: set.RateBurst}
	ep.AllowPrivate = set.AllowPrivate
	if sch := set.Schedule; sch != nil {
		ep.Schedule = webhook.Schedule{Kind: sch.Kind, First: time.Duration(sch.First), Cap: time.Duration(sch.Cap),
			Retries: sch.Retries, Jitter: sch.Jitter}
		for _, d := range sch.List {
			ep.Schedule.List = append(ep.Schedule.List, time.Duration(d))
		}
	}
	for policy, name := range orderNames {
		if name == set.Order {
			ep.Order = policy
			return ep, nil
		}
	}
	return ep, fmt.Errorf("endpoint %q: settings: order %q is not known to this version", r.id, set.Order)
}

// decodeSecrets never lets a secret into its error.
func (r *endpointRow) decodeSecrets(codec secretCodec) ([]webhook.Secret, error) {
	plain, err := codec.open(r.id, r.secrets)
	if err != nil {
		return nil, err
	}
	var texts [][]byte
	if json.Unmarshal(plain, &texts) != nil {
		return nil, errUnreadableSecrets
	}
	var secrets []webhook.Secret
	for _, text := range texts {
		secret, err := webhook.IssuedSecret(string(text))
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}
