package config

import "komainu/appliance/agent"

// Site is [site]: which box this is.
type Site struct {
	Name     string // unique among all boxes; common name of its certificate
	Label    string // for people; empty: Name
	Role     agent.Role
	Timezone string // of the IANA database; default "Asia/Tokyo"
	Lang     string // "ja" (default) or "en": language that people meet first
	Holidays string // file of holidays for the hours of [[qos]], relative to the state folder; empty: none
}

func (r *reader) site(root *table) Site {
	t := r.child(root, "site", true)
	if t == nil {
		return Site{}
	}
	defer r.done(t)
	s := Site{
		Name:     r.ident(t, "name"),
		Label:    r.str(t, "label", false),
		Timezone: r.form(t, "timezone", false, zoneForm, "config-want-timezone"),
		Lang:     r.word(t, "lang", []string{"ja", "en"}),
		Holidays: r.file(t, "holidays", false),
	}
	s.Role = r.role(t)
	if s.Timezone == "" {
		s.Timezone = "Asia/Tokyo"
	}
	if s.Label == "" {
		s.Label = s.Name
	}
	return s
}

// role is a required role; empty if there is none.
func (r *reader) role(t *table) agent.Role {
	if t.vals["role"] == nil {
		r.get(t, "role")
		r.missing(t, "role")
		return ""
	}
	before := len(r.problems)
	role := agent.Role(r.word(t, "role", roles()))
	if len(r.problems) > before {
		return ""
	}
	return role
}
