"""Words and phrases that users of APIs say for the words of their descriptions.

Each line is a group: whoever says one of them may mean the others. A phrase counts as a whole. Groups are general English and
the common words of web services.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = """
create, add, make, new, open, insert, register, set up, post, put, start a new, file, raise, give
list, show, see, all, every, which, what, view, browse, display, look at, get me, give me, overview
get, fetch, read, retrieve, look up, check, details, info, information, what is, download, export, tell me
delete, remove, drop, erase, get rid of, throw away, take off, take away, kick out, clear, wipe, destroy, trash, purge
update, change, edit, modify, set, alter, adjust, replace, fix, correct, patch, configure, tweak, swap
rename, call it, should be called, new name, name it, called
search, find, look for, hunt, where, locate, every place, grep
start, run, trigger, launch, boot, kick off, begin, fire, dispatch, by hand, execute, spin up, fire up, turn on, resume, wake
stop, cancel, abort, halt, end, kill, shut down, turn off, interrupt, suspend
enable, activate, turn on, switch on, allow, permit, opt in
disable, deactivate, turn off, switch off, opt out, forbid, mute, pause
block, ban, lock out, keep out, forbid, prohibit, shut out
unblock, unban, lift the ban
lock, freeze, no more comments, no more replies, close for comments, heated
approve, review, sign off, accept, ok, confirm, green light, waiting for approval, pending
reject, decline, deny, refuse, dismiss, turn down
merge, squash, combine, land, bring in, integrate, catch up
compare, diff, difference, differs, what changed between, changes between, versus
upload, attach, send up, push a file, ship
download, archive, zip, tarball, save a copy, get a copy
copy, fork, clone, duplicate, own copy, mirror
transfer, hand over, move, give away, new owner, change owner, migrate
share, invite, give access, let in, access, collaborator, permission, allowed to
subscribe, watch, follow, notify, notification, keep me posted, be told, get mails, hear about, ping
unsubscribe, unwatch, unfollow, stop notifying, mute, ignore, no more mails
rerun, re-run, run again, again, retry, once more, redo, restart
restore, undo, undelete, bring back, recover, revert, get back, reopen, unarchive
schedule, plan, cron, every night, timer, recurring
import, migrate, bring over, move over, load
export, dump, migration, archive, backup, take out, everything we have
count, number, how many, how much, total, amount, statistics, stats
limit, rate limit, quota, throttle, how many calls, calls left, remaining, cap
star, favorite, favourite, bookmark, like
reaction, thumbs up, thumbs down, heart, emoji, like, upvote
pin, stick, keep on top
assign, assignee, responsible, in charge, take over, hand to, owner, who takes
label, tag, category, colour, color, mark, flag
comment, note, remark, reply, answer, say, write under, leave a
issue, ticket, bug, bug report, problem report, task, todo, story, complaint
issues assigned, on my plate, my tasks, to do for me, my work, assigned to me, my tickets
dependency, dependencies, depends, blocked by, blocking, has to be finished before, prerequisite, waits for
sub issue, sub-issue, child, subtask, part of, epic, parent, broken into
milestone, deadline, goal, sprint, due date, version we plan
project, board, planning board, kanban, roadmap, cards, columns, swimlane
item, card, entry, row, record, element
pull request, pr, prs, merge request, mr, change request, patch, proposed change, my change
reviewer, reviewers, requested reviewer, reviewing, asked to review
review comment, line comment, note on line, comment on line, on line, inline comment, remark on line
repository, repo, repos, project, codebase, code base, sources
repositories, repos, projects, codebases, what have i got
branch, line of development, main, master, trunk
protection, protect, protected, nobody should be able, force push, rule, ruleset, guard, forbid pushing, must pass before
commit, revision, change set, sha, changes, history, log
tree, files and folders, directory, folder, listing, whole way down, recursive, structure
blob, file content, raw bytes, object
contents, file, files, readme, source file, document, text of, docs
ref, reference, pointer, branch name, tag name
tag, version label, release tag, annotated
release, version, published version, what's new, launch, ship
release notes, what's new, changelog, whats new, summary of changes, what has changed since
asset, binary, installer, attachment, download file, artifact
artifact, build output, build result, built files, output of the build, generated files
workflow, pipeline, ci, action, automation, build, job definition
workflow run, run, runs, build, pipeline, execution, ci run
workflow dispatch, start pipeline, start the workflow, by hand, manually, deploy pipeline
job, step, task of the build, build job
log, logs, output, console, trace, printed, print
runner, runners, build machine, agent, self hosted, worker machine, executor
environment, stage, staging, production, deployment target, prod
deployment, deploy, rollout, roll out, go live, shipping, release to production
deployment review, pending deployments, waiting for approval, sign off rollout, rollout is waiting
secret, secrets, password, credential, api key, token, private value, confidential
variable, variables, setting, config value, environment variable, env
cache, caches, cached, stored dependencies
check, checks, check run, status, linter, lint, ci result, test result, quality gate, passed, failed
annotation, annotations, hint, hints, remark at line, marks at lines
status, state, build badge, result, is it green, health
organization, org, orgs, company, account, firm, business, our company, workspace
enterprise, corporation, company wide, whole company
member, members, people, employee, staff, colleague, colleagues, coworker, teammate, who is in
membership, member, joined, belongs to, role, left the company, put into
team, teams, group, groups, squad, department, crew
outside collaborator, contractor, freelancer, external, guest
collaborator, collaborators, friend, helper, contributor, let push, may push, can push, write access
user, person, account, somebody, someone, member, people
role, roles, admin, permission level, rights, who may do what, privilege
permission, rights, access level, allowed, may
invitation, invite, invitations, asked to join, pending invite, not answered yet
webhook, webhooks, hook, callback, post to our server, notify our server, ping our url
delivery, deliveries, sent events, did it arrive, what was sent
application, app, apps, integration, bot, installed app
installation, installed, install
key, keys, ssh key, deploy key, public key, gpg key, signing key
deploy key, read only key, key for server, server access
email, mail, e-mail, address, addresses
profile, about me, bio, my account, picture, avatar, who am i
follower, followers, fans, who follows
following, whom do i follow, people i follow
gist, gists, snippet, snippets, paste, pastebin, code snippet
package, packages, image, docker image, container image, library version, npm package, published package
package version, versions, tags of the image, image tags, pushed so far
container, docker, image, registry
codespace, codespaces, dev box, cloud machine, development environment, cloud ide, remote workspace, online editor
machine, machine type, size, cpu, bigger box, hardware
vulnerability, vulnerabilities, alert, alerts, known holes, security hole, weakness, cve, insecure, exploit, advisory
dependabot, deps, dependency alert, outdated dependency, vulnerable dependency, npm deps, known holes
secret scanning, leaked, leak, leaked password, committed key, exposed token, key in the code
code scanning, static analysis, codeql, sarif, scan result, security scan
security advisory, advisory, advisories, disclose, cve, security notice, report a hole
sbom, bill of materials, list of dependencies, what is it built of, dependency graph, third party parts
license, licence, legal, terms, may i use, mit
code of conduct, behaviour rules, house rules
language, languages, python, javascript, written in, programming language
contributor, contributors, who wrote, authors, who worked on, most commits
traffic, visits, visitors, views, hits, page views, how popular, how many people looked
clone, clones, how often cloned, checkouts
referrer, where do visitors come from, sites that link
activity, events, what happened, timeline, recently, news, feed, going on
punch card, commits per hour, busiest
pages, website, site, static site, homepage, web page, docs site, domain
build pages, publish site, rebuild the site
domain, custom domain, url, dns
billing, bill, money, cost, costs, spend, spent, pay, paid, invoice, charge, minutes used, price
usage, used, consumption, minutes, storage used, how much of
seat, seats, licence seat, who uses, paid users
copilot, ai assistant, code completion, assistant
audit log, audit, who did what, history of actions, trail, who changed
saml, sso, single sign on, login provider
external group, idp, identity provider, active directory, directory group
migration, move away, move to, export everything, bring everything
topic, topics, keyword, subject, hashtag, tags of the repository
autolink, automatic link, ticket number to link, jira link, turn into links
custom property, custom properties, extra fields, own fields, metadata
template, boilerplate, starter, from a template, blueprint
discussion, discussions, forum, thread, conversation
markdown, render, html, preview, formatted
emoji, smiley, smileys
meta, ip addresses, ip ranges, address ranges, firewall, whitelist
zen, wisdom, saying
gitignore, ignore file, files to ignore
marketplace, shop, plan, listing, store
interaction limit, interaction limits, only members may comment, keep strangers out, quiet down, restrict who can comment
draft, not ready, work in progress, wip, unfinished
ready, ready for review, finished
conflict, conflicts, cannot be merged, mergeable
update branch, catch up with main, behind main, bring up to date, rebase
head, latest, newest, last, most recent, current
public, visible to everyone, open source, for all to see
private, hidden, secret, only for us, internal
visibility, visible, hide, unhide, public or private
archive, read only, freeze, retire, mothball
attestation, provenance, signature, proof of origin, who built it
network, vnet, private network, connection
hosted runner, bigger runner, larger runner, more powerful machine
runner group, group of runners, which repos may use
budget, spending limit, cost cap
campaign, security campaign, fix campaign
classroom, class, students, assignment, homework, grade, course
notification, notifications, inbox, unread, messages for me, what did i miss
thread, conversation, notification
read, mark as read, seen, done with
social account, twitter, linkedin, links in profile
block, blocked users, who is banned, troll
squash, merge
"""


def groups() -> list[list[str]]:
    """The groups, each a list of words and phrases in small letters."""
    return [[one.strip() for one in line.split(",")] for line in GROUPS.strip().splitlines()]
