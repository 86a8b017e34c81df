package say

// box: how a run of the box ended, and what is done about a part that hangs.
var box = map[string]row{
	"power-off":             {"power off", "電源断"},
	"power-ordered":         {"{=0}, ordered by {1}<: {2}>", "{1} の指示による{=0}<：{2}>"},
	"power-rescue":          {"restart into rescue", "救援モードでの再起動"},
	"power-restart":         {"restart", "再起動"},
	"reset-agent-hung":      {"the agent did not answer, and a restart of it did not help: the box was reset", "エージェントが応答せず、再起動でも回復しなかったため、装置をリセットしました"},
	"reset-path-broken":     {"this box could not carry traffic, and a restart of the agent did not help: the box was reset", "本装置が通信を中継できず、エージェントの再起動でも回復しなかったため、装置をリセットしました"},
	"reset-supervisor-hung": {"the supervisor did not answer, and another one did not either: the box was reset", "監視プロセスが応答せず、交代後も回復しなかったため、装置をリセットしました"},
	"reset-unsaid":          {"the hardware watchdog reset the box before a reason could be written: the kernel or PID 1 hung", "理由の記録前にハードウェアの監視機能がリセットしました（カーネルまたはPID 1の停止）"},
	"vigil-agent-hung":      {"the agent does not answer: it is ended with its stack in its log, and started again", "エージェントが応答しないため、状態をログに残して終了し、再起動します"},
	"vigil-agent-refuses":   {"the agent ends by itself: read its log and mend the configuration; the box is not reset for this", "エージェントが自ら終了しています。ログを確認し設定を修正してください（この理由では装置をリセットしません）"},
	"vigil-path-broken":     {"this box does not carry traffic: the agent is restarted", "本装置が通信を中継できないため、エージェントを再起動します"},
	"vigil-resets-spent":    {"two resets within an hour did not help: the box is left running as it is, call support", "1時間に2回リセットしても回復しません。このまま稼働を続けます。保守担当に連絡してください"},
	"vigil-supervisor-hung": {"the supervisor does not answer: it is replaced, what it started runs on", "監視プロセスが応答しないため交代させます（起動済みのサービスは継続します）"},
}
