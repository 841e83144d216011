"""What people say for the words in descriptions of services: general English, and the common terms of APIs.

A line is `terms | words and phrases`. The terms are what descriptions say; whoever says a word or phrase behind the bar may
mean them. Each `~` behind one halves what it counts. Words of the left side stand for each other.
"""

from __future__ import annotations

from typing import Final

ACTIONS: Final = """
create | make~, make a, make an, make me a, make my own, new, open, register, set up, setup, post, start a, start an, file a, raise, write, generate, publish, save, store, establish, spin up, begin a, introduce, log a, report, draft, compose, found
add | put, insert, append, include, attach, give, assign, let, allow, invite, link, hand, bring, join, connect, associate, let in, give access, grant, share, tie, plug in
list | show, see, view, display, browse, which, what, who, whom, all, every, each, look at, overview, enumerate, have we got, are there, tell me, give me, print, how many, history of, recent, latest
get | show, see, view, display, read, fetch, retrieve, look up, look at, info, information, details, what, who, where, which, when, tell me, give me, how much, how many, status of, state of, current, open up, pull up, inspect
check | is, are, am, do, does, did, has, have, whether, verify, test, can, may, already, still, validate, confirm, see if, see whether, make sure
search | find, look for, looking for, hunt, seek, where is, where are, search for, locate, discover, anything about, mentions, mentioning, containing, query, every place, matching
update | rotate, renew, improve, make, change, edit, modify, alter, adjust, replace, fix, correct, patch, configure, rename, tweak, call it, close, reopen, rewrite, revise, amend, make it, turn into, switch, raise, lower, move, shut, mark, reword, retitle, should be, should say, from now on, improve, extend, shorten, bump, convert
set | rotate, renew, make, change, configure, choose, define, set, put, decide, limit, restrict, replace, make it, only, allow, should be, from now on, adjust, override, specify, cap, switch, hide, allow only
delete | dissolve, disband, must go, has to go, take down, bring down, remove, drop, erase, get rid of, throw away, throw out, wipe, destroy, trash, purge, clear, kill off, scrap, forget, clean up, tear down, shred, uninstall, discard, close down, eliminate, empty, no longer need, dispose, bin, nuke
remove | delete, drop, get rid of, take off, take away, take out, kick, kick out, throw out, strip, no longer, revoke, withdraw, detach, unlink, dismiss, expel, left the, leaves, fired, take him off, take her off, take them off, take it off, out of, off, leave, undo, disconnect, pull out, exclude, clear, lift, boot
enable | turn on, switch on, activate, allow, permit, start using, opt in, make available, begin using
disable | no longer~, stop~, turn off, switch off, deactivate, pause, stop using, opt out, forbid, suspend, shut off, no longer run
start | run, launch, trigger, begin, boot, kick off, execute, spin up, fire, fire up, wake, wake up, resume, dispatch, turn on, get going, bring up
stop | halt, end, cancel, abort, shut down, turn off, kill, terminate, interrupt, put to sleep, power off
cancel | stop, abort, halt, kill, interrupt, terminate, call off, end, withdraw
download | fetch, save, get, grab, export, copy of, pull down, give me, take home
upload | attach, send, add, put, push, publish, store, hand in, submit
rerun | again, run again, retry, try again, once more, redo, repeat, rerun, re-run, restart, another go
redeliver | again, resend, send again, retry, try again, once more, repeat
restore | bring back, get back, undelete, recover, undo, revert, undo the deletion, by accident, by mistake, unarchive, rescue, resurrect
cancel | call off, abort
lock | nobody may, nobody can, no one may, no one can, freeze, close for comments, no more comments, no more replies, nobody may comment, nobody may reply, stop people commenting, shut the conversation, stop the discussion, heated
unlock | allow comments again, reopen the discussion, unfreeze
merge | squash, land, bring in, integrate, combine, join, get it in, into main, into master, ship it
approve | accept, sign off, ok, okay, confirm, green light, let through, go ahead, give the go, authorise, authorize, wave through
reject | decline, deny, refuse, turn down, dismiss, no thanks, veto
decline | reject, refuse, turn down, no thanks, do not want to join, dont want
accept | agree, take up, say yes, join
transfer | hand over, give away, move to another, new owner, change owner, hand this, move ownership, pass on
rename | new name, call it, should be called, call the, from now on called, change the name, different name
compare | diff, difference, differences, differ, what changed between, changed between, changes between, between, versus, vs
block | should not be able, must not be able, nobody should, ban, lock out, keep out, shut out, blacklist, blocklist, harass, harassing, spammer, troll, never contact
unblock | unban, lift the ban, let back in, forgive
request | ask, ask for, want someone to, invite
review | look over, check my, feedback on, approval
render | convert, format, turn into, preview, translate, transform
convert | turn into, make into, change into, transform, make an
send | mail, message, write to, tell, notify, text, dispatch, deliver, ping
move | shift, relocate, reorder, put into, drag, position, reposition, above, below, before the, after the
copy | duplicate, clone, own copy
fork | own copy, my own copy, copy their, copy of their, derive
revoke | make it useless, useless, kill the token, withdraw, invalidate, take back, cancel access, cut off, leaked, no longer valid, stop working
dispatch | trigger, start, run, launch, by hand, manually, fire, kick off
subscribe | watch, follow, notify me, keep me posted, tell me about, let me know, get mails about
unsubscribe | unwatch, unfollow, mute, ignore, stop notifying, stop mailing, no more mails, never hear, not hear
follow | keep an eye on, see what they do, fan of
star | favourite, favorite, bookmark, like
sync | bring up to date, catch up, synchronise, synchronize, pull in the latest, same as, behind, up to date
ping | test, try out, try it, does it work, is it reachable, does the hook work, whether it works
export | take out, back up, backup, everything out, dump, extract
import | bring over, bring in from, load, move from, migrate
pin | keep on top, stick, stay on top
mark | flag, tick, label
book | reserve, make a reservation, order
pay | settle, charge, give money
refund | give the money back, money back, return the payment, pay back
archive | put away, mothball, retire, freeze, read only
"""
"""Verbs, by what a description begins with."""

CONCEPTS: Final = """
repository | repo, repos, project, codebase, code base, projects, source tree, sources~, code~, package~, library~, here~
organization, org | company, firm, business, our company, organisation, account, workspace, employer, our~~, ours~~, we~~, corporate, startup, agency
authenticated user, authenticated | my~, mine~, i~~, me~~, am i, myself~, logged in as
user | person, somebody, someone, account, member, people, profile, developer, guy, he~, him~, she~, her~, colleague
member, membership, members | who in, in the team, in the company, employee, employees, staff, colleague, colleagues, coworker, teammate, people, person, who is in, who belongs, belongs, belong, joined, left, left the company, worker, workforce, who works, hire, new hire, newcomer, quit
team | group, squad, crew, department, teams, unit, tribe, guild
enterprise | corporation, group of companies, all our companies, company wide, concern
collaborator | friend, helper, let push, push to, write access, can write, may write, may push, can push, access, work on, contribute to, colleague, give access, let in, who has access, share with, help me
outside collaborator | contractor, freelancer, external~, outsider, guest, consultant, third party~
invitation, invitations | invite, invited, asked to join, join, has not answered, not answered yet, pending, onboard
permission, permissions | rights, right, access, allowed, may, privilege, may do, let, write, read only, admin
role, roles | rights, position, admin, privilege, owner, maintainer, promote, demote
owner | boss, admin, belongs to
security manager | security people, security team

issue, issues | ticket, tickets, bug, bug report, bugs, problem, problem report, task~, todo, story, complaint, defect, tracker, request~, report~, card~
assignee, assignees, assigned | assign, hand to, in charge, responsible, take care of, who takes, works on, working on, on my plate, on my desk, my work, give it to, for me to do, owner~, hand, job of, my tickets, my tasks, my todo
label, labels | tag, category, colour, color, mark, sticker, classify, flag
comment, comments | note, remark, reply, replies, answer, respond, say, said, write under, message~, feedback, discussion~, thread~
milestone, milestones | deadline, goal, sprint, target version, due date, release we plan, iteration
sub issue, sub issues | subtask, subtasks, child, children, smaller parts, broken down, break down, split up, steps of, part of, epic, parts
parent issue | parent, bigger ticket, belongs to which, epic
dependencies blocked, blocked | depends on, depend on, waits for, waiting for, waiting on, wait for, blocker, blockers, blocked by, prerequisite, prerequisites, finished before, done before, have to be finished, has to be finished, must be done, holding up, holds up, stands in the way, first~
dependencies blocking | holds up, holding up, waiting for this, depend on this, are waiting
reaction, reactions | emoji, thumbs up, thumbs down, thumb, heart, rocket, smiley, like, upvote, +1, applaud, laugh, hooray, eyes
timeline, events | history of, what happened, happened to, log of
event, events, activity, activities | what happened, going on, recently, lately, news, feed, been doing, have been up to, been up to
lock | conversation~, heated, argument, flame war
field, fields | column, attribute, property, custom column
issue type, issue types | kind of ticket, ticket kinds, kinds of tickets, type of ticket
project | board, planning board, kanban, roadmap, swimlane, columns~, plan~
project item, item | card, entry, row, ticket on the board, on the board
duplicate | same as, twice, already reported

pull request, pull requests, pulls | pr, prs, merge request, mr, change request, patch, proposed change, my change, their change, proposal, contribution, change~, changes~, squash
reviewers, requested reviewers | reviewer, review from, look over, take a look, asked to review, review my, who should review, feedback on my
review, reviews | approval, approve, sign off, looked at, verdict, opinion, feedback, request changes
review comment | comment on line, note on line, line, on line, inline, inline comment, at line, remark on line, in the code, next to the code
files | touched, touches, which files, changed files
merge | squash, land, into main, into master, mainline, in one commit, bring in, get it in, go in
update branch | behind main, catch up, up to date with main, bring up to date
draft | not ready, unfinished, work in progress, wip
commit, commits | revision, change set, changeset, sha, change~, changes~, history~, saved~, check in, checkin, who changed~
commit comment | note on a commit, remark on a commit
branch, branches | line of development, main, master, trunk, head, development line, default branch
branch protection, protection, protected | protect, force push, nobody should push, nobody may push, no direct pushes, pushing straight, push straight, pushing directly, push directly, straight to main, guard, must pass, before merging, safe from
ruleset, rules | rule, policy, policies, protect, enforce, enforced
status check, status checks | must pass, required checks, has to pass
tag, tags | version tag, version label, git tag, named version
reference, ref | branch, tag, pointer, branch name, line of development
tree | directory, folder, folders, files and folders, recursive, whole way down, file list, listing, every file, structure, subfolders, hierarchy
blob | raw bytes, object, binary content, file content
contents, content | file, files, document, text of, source file, typo, readme, what is in, folder, script~, page~, wording
readme | front page, introduction, description of the project, intro
archive zipball, zipball | zip, zip file, download the code, source as a zip, whole code, snapshot
archive tarball, tarball | tar, tgz, tar file, download the code
fork, forks | own copy, copy, derived, copies
star, starred, stargazers | favourite, favorite, favourites, favorites, bookmark, bookmarked, like, liked, fans, popular, likes
subscription, watch, watchers, watched | watch, watching, follow, notified, keep me posted, stay informed, hear about, tell me about
topics | keyword, keywords, subject, subjects, hashtags, tags
languages | language, python~, javascript~, written in, programming language, programming languages, rust~, java~, typescript~
contributors | contributor, who wrote, authors, author, who worked, written the most, most commits, most code, who contributes, contribute, programmers, who coded
license, licenses | licence, legal, may i use, terms, mit, apache, gpl, copyright, allowed to use
code conduct, codes conduct | behaviour rules, behavior rules, house rules, how to behave, netiquette, good manners
community profile | health, well kept, project health
traffic, views | visits, visitors, page views, how popular, how many people, looked at, audience, hits, visited, opened our page, people looked
clones | cloned, checkouts, how often cloned
referrers | where visitors come from, where people come from, come from, found us, sites that link, led to us
punch card, hourly | hours, busiest, time of day, at what time, when do people work, at night, weekday
code frequency | lines added, additions and deletions, lines deleted, how much code
commit activity | activity over the year, last year, per week, weekly
compare | diff, difference, what changed, between
template | boilerplate, starter, scaffold, blueprint, from a model
autolink | ticket numbers, turn into links, jira, external tracker, link to our tracker, clickable
custom property, custom properties, properties | extra fields, own fields, metadata, attributes
visibility | public, private, hide, hidden, visible, show publicly, internal, secret
transfer | another account, another owner, new owner, hand over, give away
dispatch | custom event, own event
compare commits | diff, what changed, changed since, difference, differences

release, releases | version, versions, published version, launch, shipped, ship, download page, v1, v2, build for users
release notes, generate release notes | what's new, whats new, changelog, change log, summary of changes, what has changed since, news of the version, release text
latest release | newest version, current version, latest version, most recent version, newest release, last version
asset, release asset | binary, installer, exe, download file, downloads, attachment, attached file, built file, executable, dmg
immutable | unchangeable, cannot be changed, fixed forever

workflow, workflows, actions | pipeline, pipelines, ci, continuous integration, automation, nightly, job definition, build script, build~, action, scheduled job
workflow run, run, runs | build, builds, pipeline, pipelines, execution, ci run, running pipeline, ran, running
workflow dispatch | by hand, manually, start the pipeline, start our, start the workflow, run the workflow, run the pipeline, trigger the workflow, kick off, deploy pipeline
job, jobs | step, steps, part of the build, ci job, build job, task of
failed jobs | what failed, failed steps, broken ones, red ones
logs | log, output, console, trace, printed, print, error messages, stdout
artifact, artifacts | build output, build result, built files, what was built, produced, generated files, result of the build, output of the build, files the build, did the build produce
attempt | earlier try, first try, second try
timing, usage | how long, duration, took, minutes, run time, runtime
self hosted runner, self hosted runners, runner, runners | build machine, build machines, build server, build agent, own machine, our own machines, own server, own hardware, worker machine, executor, ci machine, ci server, gpu box
registration token | register a machine, register a runner, new build machine
hosted runner, hosted runners | rented machine, bigger machine, larger machine, machine in the cloud
runner group | group of machines, pool of machines, group of runners
environment, environments | stage, staging, production, prod, deployment target, live system
deployment, deployments | deploy, deployed, rollout, roll out, rolled out, go live, went live, live, in production, shipped, release to production
deployment status | how did the rollout go, rollout failed, rollout succeeded, deploy went
pending deployments | waiting for approval, waiting to go live, waits for approval, sign off the rollout, rollout is waiting, let the rollout
secret, secrets | password, passwords, credential, credentials, api key, token, private value, confidential, passphrase, key~
repository secret | secret of this project
variable, variables | setting, settings, config value, configuration value, env var, environment variable, value, constant, non secret
cache, caches | cached, stored dependencies, ci cache
oidc | openid, cloud login
concurrency group | parallel, at the same time, queue of runs
permissions | rights, may do, allowed
retention | how long, keep, kept, days
check run, checks, check | linter, lint, ci result, test result, quality gate, passed, failed, bot, result of a bot, verdict of
check suite | group of checks, all checks
annotations | hints, hint, marks at lines, remarks at lines, warnings at lines
combined status, status, statuses | green, red, build badge, passing, passes, state of the build, is it green, all green, everything green, did it pass, health, state

webhook, webhooks | hook, hooks, callback, web hook, notify our server, post to our server, call our server, tell our server, call our url, our endpoint, push events to
delivery, deliveries | sent to our, what was sent, did it arrive, what did you send, sent events, was sent, arrived
redeliver | send again, resend, once more, try sending
config | configuration, setting, settings

app, apps | application, integration, bot, plugin, add on, addon, extension
installation, installations | installed, install, where is it installed
installation access token, token | access token, act as, temporary key, credentials for the bot, log in as
oauth | login, sign in, authorised app
marketplace | shop, store, app store
plan | price plan, tariff, offer, pricing

notification, notifications | inbox, unread, message, messages, messages for me, did i miss, news for me, alerts for me, pings
mark notifications read | seen, have read, mark as read, clear my inbox, all read, read them all
thread | conversation, discussion, chain
thread subscription | never hear, stop notifying, mute, leave me alone, no more mails, stop telling me

gist, gists | snippet, snippets, code snippet, paste, pastebin, note to share
package, packages | image, docker image, container image, npm package, library, published library, artifact~, module, container, crate
package versions, package version | tags of the image, image tags, which tags, versions of the image, builds of the image, pushed so far, did we push, tags of the docker, uploaded versions
container, docker | image, images, registry
codespace, codespaces | cloud machine, dev machine, dev box, development environment, cloud ide, remote workspace, online editor, cloud editor, dev container, cloud workspace, vm, remote machine, browser editor
machine, machines | size, cpu, memory, hardware, bigger, faster, more powerful, cores
devcontainer | dev container, container config
prebuild | prepared, faster start

vulnerability, vulnerabilities, vulnerability alerts | hole, holes, security hole, security holes, weakness, weaknesses, cve, insecure, exploit, known problems, unsafe, bugs in libraries
dependabot alerts, dependabot | dependency alert, vulnerable dependency, vulnerable dependencies, vulnerable libraries, outdated, holes in libraries, insecure libraries, insecure dependencies, known holes, holes in our, libraries~, npm~, dependencies
secret scanning alerts, secret scanning | leaked, leak, leaks, committed a password, committed a key, leaked password, leaked key, password in the code, key in the code, passwords in code, exposed, keys that leaked, leaked keys
code scanning alerts, code scanning | static analysis, scan result, security scan, findings, code analysis, analyser, analyzer, scanner, security findings
code scanning analysis, sarif | scan, upload scan, scan results
codeql | scanner, database of the code
code security | security settings, security defaults
security advisory, advisories, advisory | security notice, disclose, disclosure, cve, warning to users, tell users, vulnerability report, announce
private vulnerability | report a hole, tell the maintainers, confidentially
alert, alerts | warning, warnings, findings, alarm, problem found
dismiss | false positive, false alarm, not a problem, ignore
sbom, software bill materials | bill of materials, what is it built of, third party parts, ingredients, list of dependencies, components, all dependencies, which libraries, dependency list
dependency graph, dependency | libraries, third party, packages we use
dependency review, diff | new dependencies, dependencies changed
attestation, attestations | provenance, proof, signed, origin, who built
push protection | push anyway, let the push through, blocked push, bypass

key, keys | ssh key, public key, signing key, gpg key, pgp
ssh key, public ssh | laptop key, login key, key of my laptop, my laptop
gpg key, gpg | signing, signature, sign commits, pgp
deploy key | key for a server, read only key, server key, let our server pull, machine key, server may pull
email, emails | mail, e-mail, mail address, address, addresses, mails
profile | about me, bio, my name, picture, avatar, who am i, myself, biography
authenticated user get, authenticated | who am i, whoami, logged in, my account
followers | fans, who follows, follow me, following me, follows me
following, follows, followed | whom do i follow, do i follow, people i follow, does he follow, follow, follows
social account, social accounts | twitter, linkedin, mastodon, facebook, instagram
hovercard, contextual information | popup, context about

billing | bill, money, cost, costs, spend, spent, spending, pay, paid, invoice, charge, price, how much do we pay, expenses, dollars
usage, usage report | used, consumption, minutes, storage, used up, how much of, minutes used, spent, consumed
budget, budgets | spending limit, cost cap, limit costs, ceiling, spend at most
seat, seats | licence seat, license seat, paid users, paid seat, who has a licence, takes up
copilot | ai assistant, code completion, ai helper, coding assistant
agent task, agent tasks, task | ai agent, let the agent, agent, coding agent, ai developer
metrics | numbers, statistics, stats, figures, measurements
premium request | ai requests, expensive requests
audit log | who did what, trail, history of actions, admin log, record of, what admins did
saml, sso, single sign | company login, login provider, single sign on, sso
scim, provisioned | identity, sync users, provision
external group, external groups, idp | active directory, okta, entra, directory group, identity provider group, ldap
blocked, blocking users, block | should not be able, must not be able, nobody should, ban, banned, troll, harass, spammer, keep out, contact me
interaction restrictions, interaction limits, interactions, interaction | only members may comment, only contributors, strangers, keep strangers out, quiet down, who may comment, who can comment, limit comments, newcomers may not, may comment, flame war, calm down, cool down, spam wave, can comment, may interact
migration, migrations | move away, moving, backup of, export everything, everything out, back up, backup, take everything, move off, move everything
source import, import | bring over, from svn, from another host
personal access token, fine grained personal access | pat, pats, access keys of people, tokens of people, api tokens of our people
rate limit, limit | how many requests, how many calls, requests left, calls left, quota, throttled, throttle, allowance, remaining calls, more requests
network configuration, network configurations | private network, vnet, vpn
public events | everybody is doing, whole site
meta, ip addresses | ip ranges, address ranges, firewall, ip, addresses of servers, whitelist, allowlist
zen | wisdom, saying, wise words, motto
emojis | smiley, smileys, emoticons
gitignore | ignore file, git should skip, git ignores, files to skip, not be committed, git skips, should not track
markdown | asterisks, formatted text, html, to html, formatting
api version, versions | which versions of the api
feeds | rss, atom
root | all endpoints, entry point
classroom | class, course, students, school
assignment | homework, exercise
grades | marks, results of students, scores
campaign | fix it week, remediation drive
hooks | callback
page, pages, pages site | website, site, web page, homepage, static site, docs site, web site, publish the docs, online docs
pages build, build | rebuild the site, publish the site, regenerate
domain, custom domain | url, dns, address of the site, web address, own domain
health check | works, dns right, is it up, reachable
discussion, discussions | forum, debate, q&a, board
announcement, banner | notice to everybody
search code, code | every place, where is used, uses of, function, grep, calls the, called, occurrences
search issues | find tickets, find the ticket, find issues, tickets that mention
search users | find people, people named
search repositories | find projects, projects about
search commits | message mentions, commits that mention
suggestion | proposal, hint

webhook, webhooks | whenever, each time, every time, on every push, when something is pushed, when somebody pushes, as soon as something happens, automatically told, inform our system, react to events
collaborator, collaborators | able to read, able to write, be able to, get at, gets at, reach, has access, have access, gets access, who can see, who can change, read access, bring on board, let them work, take part, work with me
remove collaborator | take back access, no longer push, lock out of the repo
collaborator permission | what may, how much may, which rights
token, tokens | access key, key for the api, log in with, acting as, act as
token revoke, revoke, credentials | token leaked, token is out, useless
followed, following | fan of, a fan of, whom i follow, people i like
users follow, follow | become a fan, be a fan
code conduct, codes conduct | behave, behaviour, behavior, manners, rules for people, polite
license | open source licence, copyleft, conditions of use
upstream, merge upstream | original, the original, what is new in the original
review protection, pull request review protection | two approvals, needs approvals, needs two, must be approved, has to be approved, four eyes, approvals before merging, required approvals, second person must
required signatures, signature protection | only signed commits, signed commits
allowed actions, actions permissions | third party actions, which actions, foreign actions, only our actions
default workflow permissions | rights of the pipelines, read rights by default, what pipelines may do
annotations | warnings did, remarks did, hints did, complain about, linter complained
check runs | what did the linter say, linter results, test results, tests say, which tests failed, what failed
repositories accessible installation, repositories installation | may our bot see, bot can see, bot may read
app installation | our bot, the bot
assignees remove, assignees | is on holiday, on vacation, no longer works on, off the ticket, working on, works on it
assignees add, assignees | takes care of, look after, should do it, should fix it, give the ticket to
team delete, team | dissolve
team members | in the backend group, into the group, into the team, to the team, joins the team, join the team
user | something about, tell me about the user, person behind, who is
license | mit licence, text of the licence
tarball, zipball | whole source
rename | new title
issue update, issue | change the title, mark as done, is done, is fixed, was fixed, fixed now, reopen, close the ticket, close it, solved, resolved, finished, shut
issue create, issue | report a bug, file a bug, something is broken, does not work, crashes, complain about
pull request update | close the pr, retitle, change the base, different base
branch create, reference create | new branch, start a branch, branch off, cut a branch
reference delete | remove a branch, throw a branch, drop the branch, old branch, stale branch, merged branch
reference update, update reference | force push, set the branch, point the branch, reset the branch, move the branch, back to an older commit, wind back, roll back
tag create, reference create | put a tag, version label, tag this commit, tag a commit
commits | who changed, who wrote this line, when was, since last week, recent changes, what has been done
commit | what did this commit, undo a commit
comparison, compare | ahead, behind, lines differ, how far apart, changes since
contents create update, contents | save a file, write a file, change one line, one line fix, edit a file, upload a file, put a file, fix the text
contents delete, file delete | remove a file, delete a file, get rid of the file
content | show me the file, read a file, open a file, raw text, what does the file say, look inside
directory, contents | what is in the folder, list the folder, which files are there
repository create | start a project, new project, new repo, begin a project, set up a repo, set up a project
repository update | describe the project, description of the repo, switch off the wiki, settings of the repo, change the description, default branch, homepage
repository delete | wipe the project, wipe the repo, remove the project forever
repositories organization | company's projects, our projects, projects of the company, all our repos, projects that the company has
repositories authenticated user | my projects, my repos, my repositories, what have i got
repositories user | his projects, her projects, projects of
repositories search | popular projects, find a library, any projects about, projects written in, is there a project
release create | publish a version, ship a version, new version, cut a release, put out a version
release latest | latest published, current release
assets | files of a release, downloads of a version, how often was it downloaded, download count
deployments | rollouts, what went live, which version runs
workflow run | that build, last build, latest build, the build, build number
workflow runs failed | broken builds, red builds
run attempt | second attempt, first attempt
workflow usage, usage run, billable | how long did the build, minutes of the build
secrets organization | company passwords, shared secret, shared by all repos, for all repos
variables organization | shared value, company wide setting
environment secret | secret of the stage, password for production
runner registration token, registration token | new machine, add a machine, add a build machine, add a runner, register our, set up a runner
runner remove token | unregister
runners labels, labels runner | tags of the machine
hosted runner | machine from you, larger machine
artifact download | get the files the build made, fetch the build result
artifact delete | old build files, free space
caches | speed up, clean the cache, empty the cache, clear the cache, wipe the cache, forget the cache
notifications | what is new for me, mentions, where was i mentioned, who mentioned me
notifications read | cleared, done with, all caught up
thread | this conversation
subscription delete | stop watching, do not want to hear
stargazers | who likes, who bookmarked, stars have we, how many stars
gist create | put a snippet, share some text, share a piece
gist update | edit my snippet
gist delete | remove my snippet
codespace create | new cloud machine, give me a machine, start a workspace, fresh environment
codespace stop | shut the cloud, turn off my cloud machine, stop my cloud machine
codespace delete | throw away my cloud machine
dependabot alert | false alarm, not affected, risk is tolerable
secret scanning alert | mark as revoked, key was changed
advisory global, advisories global | known cve, look up a cve, all known holes, is there an advisory
organization invitation | ask somebody to join, by mail to the company, bring somebody in, get her into the company
organization membership | promote to owner, an owner, role in the company
organization update | change the company, billing mail of the company, company profile, company's description
teams create | start a group, make a group, new team
members public | shown publicly
audit log | look back at what, sensitive actions, who removed, who added
billing usage | how many minutes, how expensive, overall cost, consumption this month
copilot seats, seats | licences in use, who has, paid licence
copilot metrics | how much is the ai used, lines suggested, accepted suggestions

visibility, private | seen by, not be seen, make it private, make it public, make private, make public, only for us, open source it, go public, close source, everybody can see, nobody can see
watchers, subscribers | gets told, get told, is told, are told, gets notified, gets mails, gets the news, receives mails, who watches, keeps an eye
set membership, membership | make an admin, make admin, an admin, an owner, promote, demote, maintainer of the team
pending invitations, pending, invitations | unanswered, not accepted, did not accept, not yet accept, did not yet accept, yet to accept, still open invitation, open invitations, waiting to join, has not joined, have not joined
failed invitations | invitations that went wrong, could not be delivered, expired
artifact, artifacts | build results, results of a build, results of the build, built files, what ci built, build products, compiled files, test report, coverage report
self hosted runner, self hosted runners, runner, runners | build box, our box, own box, build computer, test machine, build node, build host, own build machine, own ci machine
runner application, application | program to install, software for the machine
commit, commits | last changed, changed last, edited last, touched last, who edited, past changes, earlier changes, what changed, checked in, saved changes
commits | history of a file, history of the file, change history
referral paths, paths, popular | most visited, which pages, popular pages, pages visitors, top pages, best read
referrers, referral sources | visitors come, come from, brought, led people
pull request, pull requests | propose, proposes, proposed, proposals, submit my change, offer my change, my work, ready to merge, waiting to be merged, merge my branch, get my branch, open a pr
merged | gone in, went in, gone into main, landed, has it been merged, already in
pull request files | files in the pr, which files does the pr
sbom | parts list, made of, made up of, consists of, inventory of, built from
advisory, advisories | tell the world, warn users, warn people, warn everyone, announce a hole, publish a hole, public warning, write up
deploy key, deploy keys | own key, key of the server, pull this project, server reads, server can read, server can pull, server to pull, machine may read, automated access
profile, bio, blog | about myself, my bio, my page, my description, my homepage, display name, my location, where i live
copilot, seat, seats | ai, ai helper, ai licence, ai license, coding helper
block, blocked | spam, spams, spammer, spamming, annoying, insults, insulting, abusive, abuse, bully, nuisance
unblock | allowed back, second chance, no longer banned
interaction, restrictions | nobody new, newcomers, strangers, only people who, only existing, temporarily, for a day, for a week
status checks, status check contexts, contexts | must pass, has to be green, required tests, needed tests
commit status | report the result, report that, mark the commit, commit is fine, commit passed, commit failed, test system, external ci
protection, protected | safe, safeguard, nobody can delete, cannot be deleted, cannot be overwritten, rewrite history
branch restrictions, access restrictions | who may push, who can push, only these people
rename branch | called main, master to main
merge branch | merge one branch, bring one branch into another, merge branches
sync fork, merge upstream, upstream | original project, bring my fork up to date, my copy is behind, original repo, parent project
template repository, template | start from, based on, new project from, starting point, model project, blueprint, from our standard
topics | what the project is about
languages | coded in, how much python, what is it written
readme | describes itself
labels | kinds, categories, tags we use
assignees | who can take, can be given, could take, candidates
milestones | deadlines, goals, how far are we
sub issue, sub issues | below it, under it, smaller tickets, break it down, broken into, divide, nested
sub issue parent, parent | above it, which story, bigger story
timeline | since it was filed, story of the ticket, everything that happened, full history
events | what happened
issues | what needs doing, work to do, open problems, reported problems, complaints, requests
issues assigned | given to me, on my list, what should i work on, things i have to do, my duties
search issues | across all projects, anywhere
lock | stop replies, no further replies, further comments
comments | what did people say, said about, talk under, opinions, answers, conversation under, discussed
update comment | correct my remark, fix my remark, edit what i said
reviews | who reviewed, who approved, who looked at, was it approved, verdicts
request reviewers | ask for a review, want a review, needs a review, look it over, look over it, second pair of eyes, want feedback
remove requested reviewers | need not review, no longer review, instead
dismiss review | throw out a review, outdated approval, no longer counts
review comments | remarks in the code, remarks on the code, notes in the code, comments in the diff
deployment status | tell that the rollout, finished rolling out, rollout is done
deployments | what is live, what runs in production, which version is live, when did we ship
pending deployments | waiting rollout, wants approval, go ahead with the rollout, hold the rollout, held back
environments | stages, where can we deploy
environment protection, protection rules | who must approve the rollout, wait before the rollout
workflow runs | recent builds, last builds, builds so far, when did ci run, ci results, past builds, history of builds
jobs workflow run | parts of the build, steps of the build
logs | why did it fail, what went on, messages of the build, build messages
cancel workflow run | stop the build, abort the build, running too long, hangs, stuck build
delete workflow run | forget the build, remove old builds
rerun, re run | build again, one more time
disable workflow | no more builds, stop running every night, pause the pipeline
enable workflow | run again every night, wake the pipeline
cache usage | how big is the cache, size of the cache, space used by caches
actions caches | stored packages, speed up files
permissions actions | which actions may be used, may run which
secrets | names of the passwords, which passwords, stored passwords
public key | encrypt a secret, to encrypt
webhook config, configuration webhook | where does the hook point, hook url, url of the hook, secret of the hook
webhook delivery, deliveries | failed calls, calls to our server, hook history, hook events, past calls, last calls
installations | where is our app, who installed, which accounts use our app
repositories accessible installation | which repos may the app, app see
suspend installation | pause the app
codespaces | workspaces, dev environments, my machines in the cloud, hosted editor
codespaces secrets | passwords for my dev machine
export codespace | save my work, save changes of my cloud machine
packages | published things, our libraries, docker images, container images, what have we published
delete package version | remove one version of the image, remove an image, old images, old versions
restore package | deleted the package, package back
gists | pieces of code, my pastes, quick notes
gist comments | said about my snippet, under my snippet
gist fork, forks | copy of a snippet
public gists | what are others sharing
starred | what did i like, things i bookmarked, favourites of
feeds | subscribe in a reader, news reader
followers | people who follow, audience
blocked users | people i banned, whom did i ban
emails | my addresses, all my mails
gpg keys, signing keys | keys for signing, verify my commits
ssh keys | keys on my account, login keys
organization members | everyone at, everybody in, people in the firm, headcount, who all works
organization members public, public member | openly, show that i work, publicize, known members
remove member organization, remove organization | fire, fired, let go, quit the company, no longer works, leaves the company, offboard
organization teams | which groups, which teams do we have, list of groups
child teams | teams below, smaller groups, subteams
team repositories | looks after, responsible for, can reach
team members | people on the team, in the squad, in the group
outside collaborators | people from outside, not employees
two factor | 2fa, second factor, mfa
audit | admins do, admins did, what did our admins, who deleted, who changed the settings, compliance
blocking organization | banned from our company
personal access tokens requests, requests | ask for access keys, want to use a token
usage billing, billing | bill of this month, last bill, cost us, did we spend, expensive, what does it cost
dependabot secrets | passwords for the update bot
dependabot alerts | unsafe dependencies, risky libraries, bad dependencies, need an upgrade, need upgrading, known security problems
code scanning alerts | problems the scanner found, analyser found, analyzer found, found in our code, scanner's results, bugs found by the scanner
code scanning default setup | turn on the scanner, switch on scanning
secret scanning alert | the leak, leak as fixed, mark the leak, leaks found, key that leaked
locations | where is the leak, in which file, which places
sarif | hand in the results, results of our own scanner, scanner results
automated security fixes | fix holes automatically, automatic fixes
private vulnerability reporting | let people report holes, secret reports
pages build | site again, build it again, site is old, does not show the last change
pages site, pages | host the docs, turn on the website, take the website down, our site
pages health check | domain set up, domain right, domain works
license repository | which licence, licence of this project
gitignore | which files to ignore
emojis | list of smileys
import | take over from another host
migration archive | download the backup, finished backup, backup link
unlock repository migration | make it usable again after moving
project fields | columns on the board
project items | cards on the board
attestations | prove who built, where does this build come from
rulesets | rules for branches, branch rules, which rules
bypass | skip the rules, exception to the rule, push anyway
network | connection

payment, payments, charge | pay, money, bill, charge a card, take money, credit card, debit, purchase
refund, refunds | money back, give back, return the money, reimburse
invoice, invoices | bill, bills, receipt
customer, customers | client, clients, buyer, shopper, user
order, orders | purchase, purchases, bought, shopping, buy
cart, basket | shopping cart, trolley, what i want to buy
product, products | article, articles, merchandise
price, prices | cost, costs, how much, expensive
discount, coupon | voucher, rebate, promo code, promotion
shipment, shipping, tracking | parcel, package, delivery, where is my, sent, mail
inventory, stock | in store, left in stock, available
subscription, subscriptions | recurring payment, membership, monthly plan
event, events, appointment, calendar | meeting, meetings, date, busy, free time, agenda, diary
availability, slots | free time, when can, open slots
reminder | remind, dont forget, alarm
message, messages | text, chat, mail, note, dm, sms
channel, channels | room, chat room, group chat
attachment | file, picture, enclosed
contact, contacts | address book, phone number, people i know
file, files, document | doc, docs, paper, spreadsheet
folder, directory | files, place for files
image, photo, picture | pic, pics, snapshot, drawing
video | film, clip, movie
audio, song, track | music, sound, tune
playlist | list of songs, mix
weather, forecast | rain, sunny, temperature, umbrella, snow, wind, cold outside, hot outside, weather tomorrow
temperature | warm, cold, hot, degrees
location, place, geocode | where, address, coordinates, city, map
route, directions | way to, how do i get to, drive to, navigate, walk to
distance | how far, far
currency, exchange rate, rate | convert money, euro, dollar, dollars in euros
stock, quote, ticker | share price, shares, market price, stock price
account, balance | how much money, funds, bank
transaction, transactions | payments, bookings, movements
translate, translation | in german, in french, in english, into another language, say in
summarize, summary | shorten, in short, gist of
password | login secret, forgot, credentials
login, session, authenticate | sign in, log in, logon, log on
logout | sign out, log out, log off
database, table | tables, db~, records~
query, sql | select, ask the database, rows
server, instance | machine, vm, computer, box, host
log, logs | output, errors, what happened, console
metric, metrics | numbers, graph, measurements, chart
backup, snapshot | copy, save everything, safe copy
job, task | work, background work
schedule, cron | every day, every night, at a time, timer, recurring
queue | waiting line, backlog
model, models | ai, neural network, llm
review, rating, ratings | stars, opinion, how good
status, state | how is it going, progress, is it done, finished
recipe, recipes | cook, meal, dish
flight, flights | plane, fly, airplane
hotel, reservation, booking | room, stay, book, table for
ticket, tickets | issue, seat, admission
survey, form, response | questionnaire, answers, poll
"""
"""Nouns and their kin."""

NAMES: Final = frozenset(
    """
    alice bob carol dave eve frank grace heidi ivan judy mallory mike oscar peggy sybil trent victor walter wendy zoe anna peter
    paul mary john jane joe jim tom tim sam max lisa laura emma sarah kate kim alex chris pat jack james david daniel maria anne
    susan linda robert richard thomas mark george steve kevin brian eric adam ben nick ryan julia nina olga yuki ahmed ali
    """.split()
)
"""First names that people put into examples: a user is meant."""


def lines(text: str) -> list[tuple[list[str], list[tuple[str, float]]]]:
    """The lines of a table: terms, and what is said for them with its weight."""
    found = []
    for line in text.strip().splitlines():
        left, bar, right = line.partition("|")
        if bar:
            words = [one.strip() for one in right.split(",")]
            said = [(one.rstrip("~"), 0.5 ** one.count("~")) for one in words]
            found.append(([one.strip() for one in left.split(",")], said))
    return found
