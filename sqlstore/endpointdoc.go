package sqlstore

import (
	"context"
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

	Health         *healthSetting `json:"health,omitempty"`
	Verify         string         `json:"verify,omitempty"`
	MaxBacklog     int            `json:"max_backlog,omitempty"`
	WhenFull       string         `json:"when_full,omitempty"`
	SequenceHeader string         `json:"sequence_header,omitempty"`
}

type healthSetting struct {
	Kind       string   `json:"kind"`
	SlowAfter  duration `json:"slow_after,omitzero"`
	ProbeAfter duration `json:"probe_after,omitzero"`
	ProbeEvery duration `json:"probe_every,omitzero"`
	HoldAfter  duration `json:"hold_after,omitzero"`
	Gap        duration `json:"gap,omitzero"`
	Warn       duration `json:"warn,omitzero"`
	Notice     duration `json:"notice,omitzero"`
	KeepHeld   bool     `json:"keep_held,omitempty"`
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

// fullNames are the names of policies for a full backlog in settings; the default one is not written.
var fullNames = map[webhook.FullPolicy]string{
	webhook.RefuseWhenFull: "",
	webhook.ExpireOldest:   "expire_oldest",
}

// policyNamed is the policy that a map of names calls so.
func policyNamed[P comparable](names map[P]string, name string) (policy P, ok bool) {
	for p, n := range names {
		if n == name {
			return p, true
		}
	}
	return policy, false
}

func encodeEndpoint(ctx context.Context, codec sealer, ep *webhook.Endpoint) (row endpointRow, err error) {
	set := endpointSettings{
		Profile: ep.Profile, Timeout: duration(ep.Timeout), SuccessFrom: ep.Success.From, SuccessTo: ep.Success.To,
		MaxInFlight: ep.MaxInFlight, RateEvents: ep.Rate.Events, RatePer: duration(ep.Rate.Per), RateBurst: ep.Rate.Burst,
		Order: orderNames[ep.Order], AllowPrivate: ep.AllowPrivate,
		Verify: string(ep.Verify), MaxBacklog: ep.MaxBacklog, WhenFull: fullNames[ep.WhenFull], SequenceHeader: ep.SequenceHeader,
	}
	if h := ep.Health; !h.IsZero() {
		set.Health = &healthSetting{Kind: h.Kind, SlowAfter: duration(h.SlowAfter), ProbeAfter: duration(h.ProbeAfter),
			ProbeEvery: duration(h.ProbeEvery), HoldAfter: duration(h.HoldAfter), Gap: duration(h.Gap), Warn: duration(h.Warn),
			Notice: duration(h.Notice), KeepHeld: h.KeepHeld}
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
	if row.secrets, err = codec.seal(ctx, secretsColumn, ep.ID, plain); err != nil {
		return row, err
	}
	row.id, row.tenant, row.url = ep.ID, ep.Tenant, codec.shownURL(ep.URL)
	row.credentials, err = encodeCredentials(ctx, codec, ep)
	return row, err
}

// decode is the endpoint of a row. unreadable says what of it cannot be read, and why: then it is without that and without all that is
// sealed. One row that is broken, or of a newer version, keeps no other endpoint from being read.
func (r *endpointRow) decode(ctx context.Context, codec sealer) (ep webhook.Endpoint, unreadable, err error) {
	ep = webhook.Endpoint{ID: r.id, Tenant: r.tenant, URL: r.url}
	if err := json.Unmarshal(r.types, &ep.Types); err != nil {
		ep.Types = nil // counts as all: rather is too much kept than too little
		return ep, fmt.Errorf("endpoint %q: types: %w", r.id, err), ctx.Err()
	}
	if err := r.decodeSettings(&ep); err != nil {
		return ep, err, ctx.Err()
	}
	sealed := ep
	if sealed.Secrets, err = r.decodeSecrets(ctx, codec); err != nil {
		return ep, fmt.Errorf("endpoint %q: secrets: %w", r.id, err), ctx.Err()
	}
	if err := r.decodeCredentials(ctx, codec, &sealed); err != nil {
		return ep, fmt.Errorf("endpoint %q: credentials: %w", r.id, err), ctx.Err()
	}
	return sealed, nil, nil
}

// decodeSettings fills in what the settings say.
func (r *endpointRow) decodeSettings(ep *webhook.Endpoint) error {
	var set endpointSettings
	if err := json.Unmarshal(r.settings, &set); err != nil {
		return fmt.Errorf("endpoint %q: settings: %w", r.id, err)
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
	return r.decodePolicies(&set, ep)
}

// decodePolicies fills in the policies of an endpoint.
func (r *endpointRow) decodePolicies(set *endpointSettings, ep *webhook.Endpoint) error {
	ep.Verify, ep.MaxBacklog, ep.SequenceHeader = webhook.VerifyMode(set.Verify), set.MaxBacklog, set.SequenceHeader
	if h := set.Health; h != nil {
		ep.Health = webhook.HealthPolicy{Kind: h.Kind, SlowAfter: time.Duration(h.SlowAfter), ProbeAfter: time.Duration(h.ProbeAfter),
			ProbeEvery: time.Duration(h.ProbeEvery), HoldAfter: time.Duration(h.HoldAfter), Gap: time.Duration(h.Gap),
			Warn: time.Duration(h.Warn), Notice: time.Duration(h.Notice), KeepHeld: h.KeepHeld}
	}
	var ok bool
	if ep.Order, ok = policyNamed(orderNames, set.Order); !ok {
		return fmt.Errorf("endpoint %q: settings: order %q is not known to this version", r.id, set.Order)
	}
	if ep.WhenFull, ok = policyNamed(fullNames, set.WhenFull); !ok {
		return fmt.Errorf("endpoint %q: settings: when_full %q is not known to this version", r.id, set.WhenFull)
	}
	return nil
}

// decodeSecrets never lets a secret into its error.
func (r *endpointRow) decodeSecrets(ctx context.Context, codec sealer) ([]webhook.Secret, error) {
	plain, err := codec.open(ctx, secretsColumn, r.id, r.secrets)
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
