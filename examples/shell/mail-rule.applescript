-- A rule of Mail: flag in red what has to be answered at once.
--
--   paw-mlx pull examples/email-triage/program.paw --as email-triage
--   cp mail-rule.applescript ~/Library/Application\ Scripts/com.apple.mail/
--
-- Write below what `command -v paw-mlx` prints: Mail knows no PATH. Then, in Mail: Settings > Rules
-- > Add Rule, "Every Message", "Run AppleScript", mail-rule.
--
-- It sets flags and nothing else: nothing is moved, marked as read or deleted, whatever a message
-- says. A message that the function fails on stays as it is, and the others are gone on with.

property pawMLX : "/opt/homebrew/bin/paw-mlx"
property functionName : "email-triage"
property urgentLabel : "immediate"
property redFlag : 0

using terms from application "Mail"
	on perform mail action with messages theMessages for rule theRule
		repeat with theMessage in theMessages
			try
				tell application "Mail" to set theText to (subject of theMessage) & linefeed & ((content of theMessage) as text)
				if my labelOf(theText) is urgentLabel then
					tell application "Mail" to set flag index of theMessage to redFlag
				end if
			on error theError
				log "mail-rule: " & theError
			end try
		end repeat
	end perform mail action with messages
end using terms from

on labelOf(theText)
	if length of theText > 4000 then set theText to text 1 thru 4000 of theText
	return do shell script "printf %s " & quoted form of theText & " | " & quoted form of pawMLX & " run " & quoted form of functionName & " --overflow head"
end labelOf
