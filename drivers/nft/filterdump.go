package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// dumpRules reads all rules of a table at once, by chain: the library asks for
// each chain, and a hub has hundreds.
func (f *Filter) dumpRules(t *nftables.Table) (map[string][]observedRule, error) {
	name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")}})
	if err != nil {
		return nil, err
	}
	msgs, err := f.counter.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(t.Family), 0, 0, 0}, name...),
	})
	if err != nil {
		return nil, err
	}
	all := map[string][]observedRule{}
	for _, m := range msgs {
		if len(m.Data) < 4 || m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return nil, err
		}
		var table, chain string
		var r observedRule
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_TABLE:
				table = ad.String()
			case unix.NFTA_RULE_CHAIN:
				chain = ad.String()
			case unix.NFTA_RULE_USERDATA:
				r.comment = commentOf(ad.Bytes())
			case unix.NFTA_RULE_EXPRESSIONS:
				ad.Nested(r.expressions)
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
		if table == t.Name {
			all[chain] = append(all[chain], r)
		}
	}
	return all, nil
}

// expressions takes the counter out of a rule's.
func (r *observedRule) expressions(list *netlink.AttributeDecoder) error {
	for list.Next() {
		list.Nested(func(x *netlink.AttributeDecoder) error {
			name := ""
			for x.Next() {
				switch x.Type() {
				case unix.NFTA_EXPR_NAME:
					name = x.String()
				case unix.NFTA_EXPR_DATA:
					if name == "counter" && r.count == nil {
						x.Nested(r.counter)
					}
				}
			}
			return x.Err()
		})
	}
	return list.Err()
}

func (r *observedRule) counter(x *netlink.AttributeDecoder) error {
	x.ByteOrder = binary.BigEndian
	r.count = &expr.Counter{}
	for x.Next() {
		switch x.Type() {
		case unix.NFTA_COUNTER_BYTES:
			r.count.Bytes = x.Uint64()
		case unix.NFTA_COUNTER_PACKETS:
			r.count.Packets = x.Uint64()
		}
	}
	return x.Err()
}
