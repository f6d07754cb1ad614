package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// duckdns is DuckDNS' interface (https://www.duckdns.org/spec.jsp): one TXT record for each name of a customer, which
// stands for all names below it.
type duckdns struct {
	api    string
	client *http.Client
}

func (d *duckdns) add(ctx context.Context, secret, name, value string, _ time.Duration) error {
	return d.update(ctx, secret, name, url.Values{"txt": {value}})
}

func (d *duckdns) remove(ctx context.Context, secret, name, value string) error {
	return d.update(ctx, secret, name, url.Values{"txt": {value}, "clear": {"true"}})
}

func (d *duckdns) update(ctx context.Context, secret, name string, values url.Values) error {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	count := len(labels)
	if count < 3 || labels[count-1] != "org" || labels[count-2] != "duckdns" || labels[count-3] == "_acme-challenge" {
		return fmt.Errorf("%s is no name below duckdns.org", name)
	}
	values.Set("domains", labels[count-3])
	values.Set("token", secret)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.api+"/update?"+values.Encode(), nil)
	if err != nil {
		return errors.New("its address cannot be asked")
	}
	status, answer, err := ask(d.client, request)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("it answers %d", status)
	case strings.TrimSpace(string(answer)) != "OK":
		return errors.New("it refuses (KO): the token or the name is not the account's")
	}
	return nil
}

// cloudflare is Cloudflare's interface (https://developers.cloudflare.com/api/resources/dns/subresources/records/), with a
// token that may read zones and edit DNS.
type cloudflare struct {
	api    string
	client *http.Client
}

type cloudflareAnswer struct {
	Success bool `json:"success"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Result json.RawMessage `json:"result"`
}

type cloudflareRecord struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Content string `json:"content"`
	TTL     int    `json:"ttl,omitempty"`
}

func (c *cloudflare) add(ctx context.Context, secret, name, value string, lifetime time.Duration) error {
	zone, err := c.zone(ctx, secret, name)
	if err != nil {
		return err
	}
	record := cloudflareRecord{
		Type: "TXT", Name: strings.TrimSuffix(name, "."), Content: `"` + value + `"`,
		TTL: max(60, int(lifetime.Seconds())),
	}
	return c.call(ctx, secret, http.MethodPost, "/zones/"+zone+"/dns_records", nil, record, nil)
}

func (c *cloudflare) remove(ctx context.Context, secret, name, value string) error {
	zone, err := c.zone(ctx, secret, name)
	if err != nil {
		return err
	}
	var all []cloudflareRecord
	query := url.Values{"type": {"TXT"}, "name": {strings.TrimSuffix(name, ".")}, "per_page": {"100"}}
	if err := c.call(ctx, secret, http.MethodGet, "/zones/"+zone+"/dns_records", query, nil, &all); err != nil {
		return err
	}
	for _, one := range all {
		if strings.Trim(one.Content, `"`) != value {
			continue
		}
		path := "/zones/" + zone + "/dns_records/" + url.PathEscape(one.ID)
		if err := c.call(ctx, secret, http.MethodDelete, path, nil, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// zone finds the zone that a name is in: the longest of its ends that the token may read.
func (c *cloudflare) zone(ctx context.Context, secret, name string) (string, error) {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for first := 1; first+1 < len(labels); first++ {
		var zones []struct {
			ID string `json:"id"`
		}
		query := url.Values{"name": {strings.Join(labels[first:], ".")}}
		if err := c.call(ctx, secret, http.MethodGet, "/zones", query, nil, &zones); err != nil {
			return "", err
		}
		if len(zones) > 0 {
			return url.PathEscape(zones[0].ID), nil
		}
	}
	return "", fmt.Errorf("the token sees no zone of %s: it must be let to read zones", name)
}

func (c *cloudflare) call(ctx context.Context, secret, method, path string, query url.Values, body, result any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	address := c.api + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, sent)
	if err != nil {
		return errors.New("its address cannot be asked")
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	request.Header.Set("Content-Type", "application/json")
	status, text, err := ask(c.client, request)
	if err != nil {
		return err
	}
	var answer cloudflareAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("it answers %d, and no JSON", status)
	}
	if !answer.Success {
		var words []string
		for _, one := range answer.Errors {
			words = append(words, fmt.Sprintf("%s (%d)", one.Message, one.Code))
		}
		return fmt.Errorf("it refuses (%d): %s", status, strings.Join(words, "; "))
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return errors.New("its answer is not as its documentation has it")
	}
	return nil
}

// ask sends a request. What it says of a failure has no address: a token may be in it.
func ask(client *http.Client, request *http.Request) (int, []byte, error) {
	answer, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return 0, nil, fmt.Errorf("it cannot be asked: %w", err)
	}
	defer answer.Body.Close()
	text, err := readAll(answer.Body, answerMax)
	if err != nil {
		return 0, nil, fmt.Errorf("its answer: %w", err)
	}
	return answer.StatusCode, text, nil
}

// readAll reads what is no longer than most.
func readAll(from io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return text, err
}
