package candidate

import "slices"

// arrays are the tables of which there may be many, also where there is none yet.
func arrays() []string {
	return []string{"allow", "bond", "bridge", "class", "database", "group", "interface", "path", "peer", "qos", "route", "service", "user", "vpn"}
}

// nameKey is the key that tells the tables of one kind apart.
func nameKey(table string) string {
	if table == "qos" {
		return "interface"
	}
	return "name"
}

// isList: a value of this key is added to those that are there.
func isList(table string, path []string) bool {
	if len(path) != 1 {
		return false
	}
	lists := map[string][]string{
		"allow":     {"source", "destination", "service"},
		"bond":      {"ports", "arp-targets"},
		"bridge":    {"ports"},
		"class":     {"match", "paths"},
		"console":   {"ssh"},
		"database":  {"primary", "listen", "clients", "peers"},
		"health":    {"listen", "syslog"},
		"interface": {"address", "gateway"},
		"ntp":       {"upstream", "serve"},
		"orders":    {"listen"},
		"path":      {"gateway"},
		"peer":      {"networks", "source"},
		"service":   {"vip", "dc"},
		"user":      {"keys"},
	}
	return slices.Contains(lists[table], path[0])
}
