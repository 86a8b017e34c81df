package say

// network: what the agent says of links, addresses, routes and gateways.
var network = map[string]row{
	"address-conflict":   {"address {0} is in use by another device<, MAC {1}>: find it, or choose another address", "アドレス {0} は他の機器が使用中です<（MAC {1}）>。その機器を調べるか、別のアドレスにしてください"},
	"agent-not-back":     {"the agent doesn't work with the new configuration: {0}", "新しい設定でエージェントが動作しません：{0}"},
	"config-changed":     {"the configuration on the disk is another one than was ordered: try again", "ディスク上の設定が指定されたものと異なります。もう一度試してください"},
	"config-unusable":    {"the configuration can't be used: {0}", "この設定は使用できません：{0}"},
	"gateway-down":       {"what this gateway leads to can't be reached", "このゲートウェイの先に到達できません"},
	"gateway-metric":     {"metric {0}", "メトリック {0}"},
	"gateway-unused":     {"not used", "未使用"},
	"gateway-used":       {"in use", "使用中"},
	"label-corrected":    {"put right", "修正"},
	"label-gateway":      {"gateway", "ゲートウェイ"},
	"label-network":      {"network", "ネットワーク"},
	"net-drift":          {"the network was changed by hand and is put right: {0}", "ネットワークが手動で変更されたため元に戻しました：{0}"},
	"net-drift-more":     {"and {0} more changes", "ほか {0} 件の変更"},
	"network-failed":     {"the network can't be made as configured: `komainu show network` says why", "ネットワークを設定どおりにできません。理由は `komainu show network` で確認してください"},
	"network-fought":     {"something else keeps changing the network: it is let have its way for a while", "別のものがネットワークを変更し続けています。しばらく様子を見ます"},
	"network-refused":    {"the kernel didn't take the network: {0}", "カーネルがネットワーク設定を受け付けませんでした：{0}"},
	"network-settled":    {"as configured", "設定どおり"},
	"port-missing":       {"this port isn't there: check the card and its slot", "このポートがありません。カードと挿入位置を確認してください"},
	"reload-busy":        {"another change of the network is under way: try again", "別のネットワーク変更が進行中です。もう一度試してください"},
	"secrets-missing":    {"only the network is kept, since secrets are missing: {0}. A site bundle brings them, or `secret set NAME`", "秘密情報がないため、ネットワークのみ動作中です：{0}。サイトバンドルまたは `secret set NAME` で登録してください"},
	"usage-show-network": {"whether the network is as configured, gateways, what was put right", "ネットワークが設定どおりか、ゲートウェイ、修正した内容"},
}
