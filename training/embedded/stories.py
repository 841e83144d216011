# ruff: noqa: E501
"""Word problems: fixed templates, and small composers for inventories and shopping."""

from __future__ import annotations

import random

from .plans import MORE_PROBLEMS
from .problems import PROBLEMS
from .split import Pool

NAMES = (
    "Tom Anna Ben Mia Sam Lisa Maria John Emma Noah Olivia Liam Ava Lucas Sofia Omar Priya Wei Yuki Carlos Fatima Ivan "
    "Chloe Daniel Ella Felix Grace Henry Isla Jack Kate Leo Nina Oscar Paul Quinn Rosa Sarah Theo Uma Victor Wendy Zoe "
    "Alice Bob Carol Dave Eve Frank Gina Hugo Ines Jonas Karim Lena Marco Nadia Peter Ravi Tina Alex Jane Mike Susan "
    "Maya Julia David Mark Laura Amir Elena Aisha Diego Hana Kofi Ling Mohammed Natasha Pedro Raj Sven Tariq Mary James"
).split()

THINGS = (
    "apples oranges books pencils marbles stickers cookies coins cards balls eggs bottles chairs tables flowers toys "
    "tickets shirts candies pens bananas cupcakes stamps shells beads cars bricks boxes plates cups photos pages "
    "notebooks bags lemons peaches muffins donuts sandwiches pizzas games dolls kites fish dogs cats birds sheep cows "
    "chickens trees plants seeds screws nails tiles lamps phones keys mugs hats socks shoes gloves scarves t-shirts "
    "magazines postcards crayons markers erasers rulers folders envelopes batteries balloons candles berries grapes "
    "tomatoes potatoes carrots onions melons pears mangoes plums buttons magnets puzzles rocks sweets chocolates points "
    "laptops cables sensors robots tokens files servers packages letters bikes jars cans bowls spoons napkins"
).split()

WARES = [
    ware.replace("_", " ")
    for ware in (
        "apple orange book pencil ticket shirt pen cupcake notebook sandwich pizza coffee tea mug hat lamp chair bottle "
        "muffin toy ball game card cable battery poster pillow towel plant candle bag sticker burger salad juice magazine "
        "pair_of_socks box_of_chocolates loaf_of_bread bottle_of_water bag_of_rice pack_of_gum bar_of_soap "
        "carton_of_milk kilo_of_apples pound_of_cheese movie_ticket bus_ticket keyboard monitor phone cookie donut bagel"
    ).split()
]

HOLDERS = (
    "box bag basket crate shelf row table jar bucket packet carton tray drawer album pack folder bus van room class team "
    "page case container truck bench"
).split()

PLACES = (
    "school library shop farm factory bakery garden zoo museum park hotel office warehouse restaurant store theatre "
    "stadium city village hospital company club market gym"
).split()


def plural(noun: str) -> str:
    """The plural of a container or ware."""
    head, _, tail = noun.partition(" of ")
    if head.endswith(("s", "x", "ch", "sh")):
        head += "es"
    elif head == "shelf":
        head = "shelves"
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    elif not head.endswith(("tea", "coffee", "juice")):
        head += "s"
    return head + (f" of {tail}" if tail else "")


STORIES = Pool(
    [
        # one addition
        (
            "{N} has {i} {T} and {M} has {j} {T}. How many {T} do they have [together|in total|altogether|in all]?",
            "{i} + {j}",
        ),
        (
            "{N} has {i} {T}. {He} [buys|gets|finds|receives|collects] {j} more. How many {T} does {he} have now?",
            "{i} + {j}",
        ),
        ("There are {i} {T} in one {H} and {j} in another. How many {T} are there in total?", "{i} + {j}"),
        (
            "A {P} had {i} visitors on Saturday and {j} on Sunday. How many visitors came on the weekend?",
            "{i} + {j}",
        ),
        (
            "In the morning {N} sold {i} {T}, in the afternoon {j}. How many did {he} sell that day?",
            "{i} + {j}",
        ),
        ("{N} read {i} pages yesterday and {j} pages today. How many pages has {he} read?", "{i} + {j}"),
        ("A tank holds {i} litres. {j} litres are poured in. How many litres are in it now?", "{i} + {j}"),
        (
            "{N} drove {i} km on Monday, {j} km on Tuesday and {l} km on Wednesday. How far did {he} drive in all?",
            "{i} + {j} + {l}",
        ),
        ("{N} is {i} years old. How old will {he} be in {j} years?", "{i} + {j}"),
        ("The temperature was {i} degrees and rose by {j}. What is it now?", "{i} + {j}"),
        ("A class has {i} boys and {j} girls. How many [students|children|pupils] are there?", "{i} + {j}"),
        ("{N} had {x} in the bank and deposited {y}. What is the balance?", "{x} + {y}"),
        ("{i} people are on a bus and {j} more get on. How many people are on the bus?", "{i} + {j}"),
        ("A {W} costs {x} and shipping is {y}. What is the total?", "{x} + {y}"),
        ("{N} scored {i}, {j} and {l} points in three games. What is the total score?", "{i} + {j} + {l}"),
        ("Monday: {i} {T}. Tuesday: {j} {T}. How many {T} in both days?", "{i} + {j}"),
        ("{N} walked {t} km before lunch and {u} km after it. What distance did {he} walk?", "{t} + {u}"),
        ("{N} planted {i} {T} and {M} planted {j}. Find the number of {T} planted.", "{i} + {j}"),
        ("Dinner cost {x} and the tip was {y}. How much did {N} pay?", "{x} + {y}"),
        ("{N} weighs {i} kg and the bag weighs {j} kg. What do they weigh together?", "{i} + {j}"),
        ("{M} has {j} {T} more than {N}, who has {i}. How many does {M} have?", "{i} + {j}"),
        ("{N} has {i} {T}. {M} has {j} more than {N}. How many {T} does {M} have?", "{i} + {j}"),
        # one subtraction
        (
            "{N} has {i} {T} and [gives|hands|sells|lends] {j} to {M}. How many {T} [are left|does {he} have left|remain]?",
            "{i} - {j}",
        ),
        (
            "{N} had {i} {T}. {He} [lost|ate|sold|gave away|used|broke|donated] {j}. How many are left?",
            "{i} - {j}",
        ),
        (
            "There were {i} {T} in the {P}. {j} were [taken|removed|sold|stolen|thrown away]. How many remain?",
            "{i} - {j}",
        ),
        ("{N} has {x} and spends {y}. How much money is left?", "{x} - {y}"),
        ("{N} pays with {x} for something that costs {y}. How much change does {he} get?", "{x} - {y}"),
        ("A {W} costs {y}. {N} pays {x}. What is the change?", "{x} - {y}"),
        ("A book has {i} pages and {N} has read {j}. How many pages are left to read?", "{i} - {j}"),
        (
            "{N} wants to save {x} and already has {y}. How much [more|is missing|is still needed]?",
            "{x} - {y}",
        ),
        ("{N} has {i} {T} and {M} has {j}. How many more does {N} have?", "{i} - {j}"),
        ("{N} has {i} {T}, {M} has {j} fewer. How many does {M} have?", "{i} - {j}"),
        ("The temperature was {i} degrees and fell by {j}. What is the temperature now?", "{i} - {j}"),
        ("A train has {i} passengers; {j} get off. How many are still on the train?", "{i} - {j}"),
        ("A rope is {t} metres long and {u} metres are cut off. How long is the rest?", "{t} - {u}"),
        ("One tower is {i} m high and another {j} m. What is the difference in height?", "{i} - {j}"),
        ("{N} was born in {i} and died in {j}. How old did {he} get?", "{j} - {i}"),
        ("The {P} has {i} seats and {j} are taken. How many are free?", "{i} - {j}"),
        ("Out of {i} {T}, {j} are broken. How many are fine?", "{i} - {j}"),
        ("{N}'s phone battery was at {i} percent and dropped by {j}. What is left?", "{i} - {j}"),
        ("A trip is {i} km. After {j} km, how far is it still?", "{i} - {j}"),
        ("{N} had {i} {T}, and now has {j}. How many did {he} lose?", "{i} - {j}"),
        ("A company earned {x} and spent {y}. What is the profit?", "{x} - {y}"),
        ("{N} bought a {W} for {y} and sold it for {x}. How much profit did {he} make?", "{x} - {y}"),
        ("A jacket was {x} and is now {y}. How much do you save?", "{x} - {y}"),
        ("{N} needs {i} {T} but has only {j}. How many more does {he} need?", "{i} - {j}"),
        ("{i} {T} minus {j} {T}: how many {T}?", "{i} - {j}"),
        ("After giving away {j} of {his} {i} {T}, how many does {N} still have?", "{i} - {j}"),
        # one multiplication
        ("There are {i} {HS} with {j} {T} each. How many {T} are there?", "{i} * {j}"),
        ("Each {H} holds {j} {T}. How many {T} are in {i} {HS}?", "{j} * {i}"),
        ("{N} has {i} {HS} of {j} {T}. How many {T} is that [in total|]?", "{i} * {j}"),
        ("A {W} costs {x}. How much do {n} {WS} cost?", "{x} * {n}"),
        ("One {W} costs {x}. What is the price of {n}?", "{x} * {n}"),
        ("{N} buys {n} {WS} at {x} each. How much does {he} pay?", "{n} * {x}"),
        ("{N} buys {n} {WS} for {x} each. What is the total [cost|price]?", "{n} * {x}"),
        ("How much are {n} {WS} at {x} [apiece|a piece|each]?", "{n} * {x}"),
        ("What do {n} {WS} cost if each one is {x}?", "{n} * {x}"),
        ("A car drives {i} km per hour for {t} hours. How far does it go?", "{i} * {t}"),
        ("A train travels at {i} km/h. What distance does it cover in {t} hours?", "{i} * {t}"),
        ("{N} earns {x} per hour. How much does {he} earn in {t} hours?", "{x} * {t}"),
        ("{N} works {t} hours at {x} an hour. What is {his} pay?", "{t} * {x}"),
        ("{N} runs {t} km every day. How far does {he} run in {n} days?", "{t} * {n}"),
        ("{N} reads {i} pages a day. How many pages in {n} days?", "{i} * {n}"),
        (
            "A [machine|factory|printer] makes {i} {T} per hour. How many does it make in {n} hours?",
            "{i} * {n}",
        ),
        ("A {P} has {i} rows of {j} seats. How many seats are there?", "{i} * {j}"),
        ("{i} rows with {j} {T} each, how many {T}?", "{i} * {j}"),
        ("A rectangle is {t} m long and {u} m wide. What is its area?", "{t} * {u}"),
        ("What is the area of a rectangle [of|measuring] {t} by {u} [metres|cm|feet|]?", "{t} * {u}"),
        ("What is the area of a room that is {t} metres by {u} metres?", "{t} * {u}"),
        ("What is the area of a square with side {t}?", "{t} ** 2"),
        ("A square has sides of {t} cm. What is its area?", "{t} ** 2"),
        ("A square garden has a side of {t} m. What is the perimeter?", "4 * {t}"),
        ("What is the perimeter of a square with side {t}?", "4 * {t}"),
        ("A rectangle is {t} m long and {u} m wide. What is its perimeter?", "2 * ({t} + {u})"),
        ("What is the perimeter of a {t} by {u} rectangle?", "2 * ({t} + {u})"),
        ("How much fence is needed around a field of {t} m by {u} m?", "2 * ({t} + {u})"),
        ("A box is {n} cm by {m} cm by {k} cm. What is its volume?", "{n} * {m} * {k}"),
        ("What is the volume of a cube with edges of {n} cm?", "{n} ** 3"),
        ("A triangle has base {t} and height {u}. What is its area?", "{t} * {u} / 2"),
        ("If one {W} weighs {t} kg, what do {n} weigh?", "{t} * {n}"),
        ("A recipe needs {t} cups of flour. How many cups for {n} batches?", "{t} * {n}"),
        ("{N} sleeps {t} hours a night. How many hours is that in {n} nights?", "{t} * {n}"),
        ("Every {H} weighs {t} kg. What is the weight of {n} {HS}?", "{t} * {n}"),
        ("A [tap|pump|hose] gives {t} litres per minute. How many litres in {n} minutes?", "{t} * {n}"),
        ("{N} saves {x} [a|every|each] month. How much is that after {n} months?", "{x} * {n}"),
        ("Rent is {x} per month. What is it per year?", "{x} * 12"),
        ("A subscription costs {x} a month. How much is it for a year?", "{x} * 12"),
        ("{N} has {i} {T}. {M} has {n} times as many. How many does {M} have?", "{i} * {n}"),
        ("{M} has twice as many {T} as {N}, who has {i}. How many does {M} have?", "{i} * 2"),
        ("A heart beats {i} times a minute. How many beats in {n} minutes?", "{i} * {n}"),
        ("A spider has 8 legs. How many legs do {i} spiders have?", "8 * {i}"),
        ("How many legs do {i} [dogs|cats|horses|cows] have if each has 4?", "{i} * 4"),
        ("How many wheels do {i} bicycles have, with 2 wheels each?", "{i} * 2"),
        ("There are 12 eggs in a dozen. How many eggs are in {n} dozen?", "12 * {n}"),
        ("How many eggs are {n} dozen eggs?", "{n} * 12"),
        # one division
        (
            "{N} shares {i} {T} equally among {n} [friends|children|people|kids]. How many does each get?",
            "{i} / {n}",
        ),
        (
            "{i} {T} are [split|divided|shared|distributed] equally between {n} [people|friends|teams|groups]. How many does each [one|] get?",
            "{i} / {n}",
        ),
        ("{N} has {i} {T} and puts them into {HS} of {n}. How many {HS} does {he} need?", "{i} / {n}"),
        ("{N} packs {i} {T} evenly into {n} {HS}. How many go in each {H}?", "{i} / {n}"),
        ("{n} {WS} cost {x}. How much is one?", "{x} / {n}"),
        ("If {n} {WS} cost {x}, what does one {W} cost?", "{x} / {n}"),
        ("A bill of {x} is split between {n} people. How much does each pay?", "{x} / {n}"),
        ("{n} friends split a bill of {x}. What is each person's share?", "{x} / {n}"),
        ("We are {n} people and the dinner was {x}. What does everyone pay?", "{x} / {n}"),
        ("A car drives {i} km in {t} hours. What is its [average|] speed?", "{i} / {t}"),
        ("How long does it take to drive {i} km at {j} km/h?", "{i} / {j}"),
        ("{N} drives {i} miles at {j} miles per hour. How many hours does it take?", "{i} / {j}"),
        ("{N} earned {x} in {t} hours. How much is that per hour?", "{x} / {t}"),
        ("A rope of {i} m is cut into {n} equal pieces. How long is each piece?", "{i} / {n}"),
        ("A book has {i} pages. {N} reads {j} pages a day. How many days does it take?", "{i} / {j}"),
        ("How many {HS} of {j} {T} can be filled with {i} {T}?", "{i} / {j}"),
        ("How many {T} at {y} each can {N} buy with {x}?", "{x} / {y}"),
        ("How many {WS} can I buy for {x} if one costs {y}?", "{x} / {y}"),
        ("A car uses {t} litres for {i} km. How many km per litre is that?", "{i} / {t}"),
        ("{N} types {i} words in {n} minutes. How many words per minute is that?", "{i} / {n}"),
        ("{i} students form groups of {n}. How many groups are there?", "{i} / {n}"),
        ("A yearly salary of {x} is how much per month?", "{x} / 12"),
        ("{N} makes {x} a year. How much is that a month?", "{x} / 12"),
        ("{N} has half as many {T} as {M}, who has {i}. How many does {N} have?", "{i} / 2"),
        ("The area of a rectangle is {i} and its width is {n}. What is its length?", "{i} / {n}"),
        ("{N} wants to save {x} in {n} months. How much must {he} save each month?", "{x} / {n}"),
        ("At {t} litres per minute, how long does it take to fill a pool of {i} litres?", "{i} / {t}"),
        # remainder
        ("{i} {T} are shared among {n} children. How many are left over?", "{i} % {n}"),
        ("{N} packs {i} {T} into {HS} of {n}. How many {T} are left over?", "{i} % {n}"),
        ("If {i} {T} are put in rows of {n}, how many remain?", "{i} % {n}"),
        (
            "{N} divides {i} {T} equally among {n} friends and keeps the rest. How many does {he} keep?",
            "{i} % {n}",
        ),
        # percent
        (
            "A {W} costs {x} and is {p} off. What is the [sale|new|final|reduced] price?",
            "{x} * (100 - {p}) / 100",
        ),
        ("A {W} costs {x}. There is a {p} discount. What do I pay?", "{x} * (100 - {p}) / 100"),
        ("The price of {x} is reduced by {p}. What is the new price?", "{x} * (100 - {p}) / 100"),
        ("What does a {x} {W} cost after a {p} discount?", "{x} * (100 - {p}) / 100"),
        ("How much is a {p} discount on {x}?", "{p} * {x} / 100"),
        ("How much do I save with {p} off {x}?", "{p} * {x} / 100"),
        ("What is a {p} tip on [a bill of|] {x}?", "{p} * {x} / 100"),
        ("How much tip is {p} on {x}?", "{p} * {x} / 100"),
        ("The bill is {x} and I want to tip {p}. How much is the tip?", "{p} * {x} / 100"),
        ("The bill is {x} and I tip {p}. What is the total?", "{x} * (100 + {p}) / 100"),
        ("A meal costs {x} plus {p} tax. What is the total?", "{x} * (100 + {p}) / 100"),
        ("A {W} costs {x} before {p} tax. What does it cost with tax?", "{x} * (100 + {p}) / 100"),
        ("Sales tax is {p}. How much tax is there on {x}?", "{p} * {x} / 100"),
        ("What is {x} including {p} VAT?", "{x} * (100 + {p}) / 100"),
        ("{N} earns {x} and gets a {p} raise. What is {his} new salary?", "{x} * (100 + {p}) / 100"),
        ("A population of {i} grows by {p}. What is it now?", "{i} * (100 + {p}) / 100"),
        ("A town of {i} people shrinks by {p}. How many people are left?", "{i} * (100 - {p}) / 100"),
        ("Of {i} students, {p} passed. How many passed?", "{p} * {i} / 100"),
        ("{p} of the {i} {T} are red. How many are red?", "{p} * {i} / 100"),
        ("In a {P} with {i} people, {p} are children. How many children are there?", "{p} * {i} / 100"),
        ("{N} got {i} of {j} points. What percentage is that?", "{i} / {j} * 100"),
        ("{i} out of {j} {T} are green. What percent is that?", "{i} / {j} * 100"),
        ("{N} puts {x} in the bank at {p} interest. How much interest after one year?", "{p} * {x} / 100"),
        ("What is the interest on {x} at {p} for {n} years?", "{x} * {p} * {n} / 100"),
        ("{N} invests {x} at {p}. What is it worth after a year?", "{x} * (100 + {p}) / 100"),
        (
            "A shop raises the price of a {W} from {x} by {p}. What is the new price?",
            "{x} * (100 + {p}) / 100",
        ),
        ("A seller gets {p} commission on {x}. How much is the commission?", "{p} * {x} / 100"),
        ("{N} spends {p} of {his} {x} income on rent. How much is the rent?", "{p} * {x} / 100"),
        # averages
        ("{N} scored {i}, {j} and {l} in three tests. What is the average?", "({i} + {j} + {l}) / 3"),
        ("My grades are {i}, {j}, {l} and {o}. What is my average?", "({i} + {j} + {l} + {o}) / 4"),
        (
            "The temperatures were {i}, {j} and {l} degrees. What was the mean temperature?",
            "({i} + {j} + {l}) / 3",
        ),
        ("{N} ran {t} km and {u} km. What is the average distance?", "({t} + {u}) / 2"),
        # several steps
        ("{N} has {i} {HS} of {j} {T} and {l} loose ones. How many {T} does {he} have?", "{i} * {j} + {l}"),
        ("{N} had {i} {T}, bought {j} more and gave {l} to {M}. How many are left?", "{i} + {j} - {l}"),
        ("A bus has {i} people. {j} get off and {l} get on. How many are on the bus now?", "{i} - {j} + {l}"),
        (
            "{N} buys {n} {WS} at {x} each and pays with {y}. How much change does {he} get?",
            "{y} - {n} * {x}",
        ),
        ("{N} has {y} and buys {n} {WS} for {x} each. How much money is left?", "{y} - {n} * {x}"),
        ("{N} buys {n} {WS} at {x} each and a {V} for {y}. What is the total?", "{n} * {x} + {y}"),
        ("A taxi costs {x} plus {y} per km. How much is a ride of {n} km?", "{x} + {y} * {n}"),
        ("A plumber charges {x} plus {y} an hour. What do {n} hours cost?", "{x} + {y} * {n}"),
        (
            "Tickets cost {x} for adults and {y} for children. What do {n} adults and {m} children pay?",
            "{n} * {x} + {m} * {y}",
        ),
        (
            "{N} picks {i} {T}, {M} picks {j}. They share them equally. How many does each get?",
            "({i} + {j}) / 2",
        ),
        ("{i} {T} and {j} more are packed in {HS} of {n}. How many {HS} are needed?", "({i} + {j}) / {n}"),
        (
            "{N} works {t} hours a day for {n} days at {x} an hour. How much does {he} earn?",
            "{t} * {n} * {x}",
        ),
        ("{n} {HS} with {m} packs of {k} {T} each: how many {T}?", "{n} * {m} * {k}"),
        ("{N} has {i} {T}. {M} has twice as many. How many do they have together?", "{i} + {i} * 2"),
        ("{N} has {i} {T} and {M} has {n} times as many. How many do they have in all?", "{i} + {i} * {n}"),
        ("{N} has {x}. {He} spends {y} on food and {z} on a {W}. What is left?", "{x} - {y} - {z}"),
        (
            "A {W} costs {x}. With a coupon it is {y} cheaper. What do {n} cost with the coupon?",
            "({x} - {y}) * {n}",
        ),
        (
            "{N} bakes {i} {T}, keeps {j} and puts the rest in {n} {HS}. How many per {H}?",
            "({i} - {j}) / {n}",
        ),
        ("A farmer has {i} cows and {j} chickens. How many legs do they have?", "{i} * 4 + {j} * 2"),
        ("{N} drives {i} km to work and back on {n} days. How many km is that?", "{i} * 2 * {n}"),
        ("{N} downloads {i} files of {t} MB. How many MB is that?", "{i} * {t}"),
        (
            "A {P} has {n} floors with {m} rooms each. {k} rooms are empty. How many are used?",
            "{n} * {m} - {k}",
        ),
        # units
        ("How many [minutes|mins] are [there|] in {t} hours?", "{t} * 60"),
        ("How many seconds are in {n} minutes?", "{n} * 60"),
        ("How many seconds are [there|] in {n} hours?", "{n} * 3600"),
        ("How many hours are in {n} days?", "{n} * 24"),
        ("How many days are in {n} weeks?", "{n} * 7"),
        ("How many weeks are {i} days?", "{i} / 7"),
        ("How many months are [there|] in {n} years?", "{n} * 12"),
        ("How many hours are {i} minutes?", "{i} / 60"),
        ("How many days is {i} hours?", "{i} / 24"),
        ("How many [metres|meters] are {t} [km|kilometres|kilometers]?", "{t} * 1000"),
        ("How many centimetres are in {t} metres?", "{t} * 100"),
        ("How many grams are {t} kg?", "{t} * 1000"),
        ("Convert {t} hours to minutes.", "{t} * 60"),
        ("Convert {n} days [to|into] hours.", "{n} * 24"),
        ("Convert {i} minutes [to|into] hours.", "{i} / 60"),
        ("Convert {t} kg to grams.", "{t} * 1000"),
        ("Convert {i} cm to metres.", "{i} / 100"),
        ("Convert {n} feet to inches.", "{n} * 12"),
        ("Convert {i} inches to feet.", "{i} / 12"),
        ("How many inches are in {n} feet?", "{n} * 12"),
        ("How many cents are {x}?", "{x} * 100"),
        ("How many minutes is {n} hours and {m} minutes?", "{n} * 60 + {m}"),
        ("{n} weeks and {m} days: how many days is that?", "{n} * 7 + {m}"),
        *PROBLEMS,
        *MORE_PROBLEMS,
    ]
)
"""Slots besides numbers: N M names, He he his, T things, H HS a container, W WS V wares, P a place."""

GAINS = Pool(
    [
        "{He} buys {b} more.",
        "{He} [gets|receives] {b} from {M}.",
        "{He} finds {b} more.",
        "{M} gives {him} {b}.",
        "{M} [hands|brings|sends|lends] {him} {b} more.",
        "{He} wins {b}.",
        "{He} [collects|picks|makes|gathers] another {b}.",
        "{He} picks up {b} more.",
        "{He} earns {b} more.",
        "Then {b} more arrive.",
        "{He} adds {b} to them.",
        "{His} [mother|uncle|friend|sister|father|neighbour] gives {him} {b}.",
        "Later {he} [discovers|inherits|orders] {b} more.",
        "{b} more are delivered.",
        "{He} is given {b} for {his} birthday.",
    ]
)

LOSSES = Pool(
    [
        "{He} gives {b} to {M}.",
        "{He} gives away {b}.",
        "{He} loses {b}.",
        "{He} [sells|eats|drops|breaks|uses|throws away|donates|spends|ruins] {b}.",
        "{He} sells {b} of them.",
        "{M} takes {b}.",
        "{M} [borrows|steals|buys|eats|breaks] {b} of them.",
        "{b} [are lost|get lost|are stolen|break|disappear|go missing|fall out].",
        "{b} of them are sold.",
        "{He} [lends|hands|sends|mails|returns] {b} to {M}.",
        "{He} uses up {b}.",
        "{He} leaves {b} at the {P}.",
        "{He} trades away {b}.",
        "Then {he} has to give back {b}.",
        "{b} turn out to be bad and are thrown out.",
    ]
)

CHANGES = Pool(
    [
        ("Then {he} doubles them.", "{X} * 2"),
        ("{His} collection doubles.", "{X} * 2"),
        ("The number triples.", "{X} * 3"),
        ("Half of them [break|are sold|are lost].", "{X} / 2"),
        ("{He} gives half of them away.", "{X} / 2"),
        ("{He} [shares|splits] them equally among {n} friends. How many does each friend get?", "{X} / {n}"),
        ("{He} puts them into {n} equal {HS}. How many are in each {H}?", "{X} / {n}"),
    ]
)

STARTS = Pool(
    [
        "{N} has {b} {T}.",
        "{N} had {b} {T}.",
        "{N} owns {b} {T}.",
        "{N} starts with {b} {T}.",
        "{N} has {b} {T} in a {H}.",
        "{N} [bought|collected|picked|found|made|ordered] {b} {T}.",
        "{N} begins the day with {b} {T}.",
        "At first {N} had {b} {T}.",
        "In the {P} {N} keeps {b} {T}.",
        "There are {b} {T} in {N}'s {H}.",
        "{N} brings {b} {T} to the {P}.",
    ]
)

LEFT_QUESTIONS = Pool(
    [
        "How many {T} does {he} have now?",
        "How many {T} does {N} have?",
        "How many are left?",
        "How many {T} are left?",
        "How many does {he} have?",
        "How many {T} remain?",
        "What number of {T} does {N} have in the end?",
        "How many {T} are there now?",
        "How many does {N} have left?",
        "How many {T} does {N} end up with?",
        "So how many {T} does {he} have?",
        "What is the [final|new] number of {T}?",
    ]
)

SHOPPING_STARTS = Pool(
    [
        "{N} buys",
        "I buy",
        "I bought",
        "{N} bought",
        "We need",
        "{N} orders",
        "{N} ordered",
        "I want",
        "My basket has",
        "The order is",
        "{N} purchases",
        "They bought",
        "We ordered",
        "A customer buys",
    ]
)

SHOPPING_LINES = Pool(
    [
        ("{n} {WS} at {x} each", "{n} * {x}"),
        ("{n} {WS} for {x} each", "{n} * {x}"),
        ("{n} {WS} at {x} apiece", "{n} * {x}"),
        ("{n} {WS} ({x} each)", "{n} * {x}"),
        ("{n} {WS} that cost {x} each", "{n} * {x}"),
        ("{n} {WS} costing {x} each", "{n} * {x}"),
        ("{n} {WS} priced at {x} each", "{n} * {x}"),
        ("one {W} for {x}", "{x}"),
        ("a {W} for {x}", "{x}"),
        ("a {W} at {x}", "{x}"),
        ("a {W} that costs {x}", "{x}"),
        ("a {x} {W}", "{x}"),
        ("a {W} ({x})", "{x}"),
    ]
)

SHOPPING_ENDS = Pool(
    [
        ("What is the total?", "{X}"),
        ("What is the total cost?", "{X}"),
        ("How much is that [altogether|in total|together]?", "{X}"),
        ("How much does it cost?", "{X}"),
        ("What does that come to?", "{X}"),
        ("How much do we pay?", "{X}"),
        ("What is the [bill|full price|sum]?", "{X}"),
        ("How much money is [needed|spent|that]?", "{X}"),
        ("How much change is there from {y}?", "{y} - ({X})"),
        ("How much change do I get from {y}?", "{y} - ({X})"),
        ("What is left of {y}?", "{y} - ({X})"),
        ("There is a {p} discount. What is the total?", "({X}) * (100 - {p}) / 100"),
        ("With {p} off, what is the total?", "({X}) * (100 - {p}) / 100"),
        ("Shipping is {y}. What is the total?", "{X} + {y}"),
        ("With {p} tax, what is the total?", "({X}) * (100 + {p}) / 100"),
        ("A coupon takes off {y}. How much is it?", "{X} - {y}"),
        ("It is shared by {m} people. What does each pay?", "({X}) / {m}"),
    ]
)


def cast(rng: random.Random) -> dict[str, str]:
    """Names and things for one story."""
    name, other = rng.sample(NAMES, 2)
    he, him, his = rng.choice((("he", "him", "his"), ("she", "her", "her")))
    if rng.random() < 0.08:
        name, other = rng.choice(
            (("a boy", "a girl"), ("my sister", "my brother"), ("a farmer", "a neighbour"))
        )
    ware, other_ware = rng.sample(WARES, 2)
    holder = rng.choice(HOLDERS)
    return {
        "N": name, "M": other, "he": he, "He": he.capitalize(), "his": his, "His": his.capitalize(), "him": him,
        "T": rng.choice(THINGS), "W": ware, "WS": plural(ware), "V": other_ware, "VS": plural(other_ware),
        "H": holder, "HS": plural(holder), "P": rng.choice(PLACES),
    }  # fmt: skip
