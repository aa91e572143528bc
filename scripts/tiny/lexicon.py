"""The words of the grammar and their values, on the scale of human ratings times 0.75 ([-3, 3])."""

from __future__ import annotations

from dataclasses import dataclass


def _valued(table: str) -> tuple[tuple[str, float], ...]:
    """`"good 1.5, too loud -1.1"` -> `(("good", 1.5), ("too loud", -1.1))`."""
    entries = (entry.strip() for entry in table.replace("\n", " ").split(","))
    pairs = (entry.rsplit(" ", 1) for entry in entries if entry)
    return tuple((words, float(value)) for words, value in pairs)


def _listed(table: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in table.replace("\n", " ").split(",") if entry.strip())


def _lines(table: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in table.strip().splitlines())


def _valued_lines(table: str) -> tuple[tuple[str, float], ...]:
    """One phrase a line, its value after the last bar."""
    pairs = (line.rsplit("|", 1) for line in _lines(table))
    return tuple((words.strip(), float(value)) for words, value in pairs)


@dataclass(frozen=True)
class Topic:
    """What can be talked about, and the judgements that only fit it."""

    name: str
    nouns: tuple[str, ...]
    adjectives: tuple[tuple[str, float], ...]


ADJECTIVES = _valued("""
great 2.0, good 1.5, excellent 2.3, wonderful 2.4, fantastic 2.4, amazing 2.4, brilliant 2.3,
superb 2.4, outstanding 2.4, perfect 2.4, lovely 2.0, nice 1.4, pleasant 1.4, fine 0.6, okay 0.5,
alright 0.5, decent 0.8, acceptable 0.5, solid 0.9, impressive 1.8, enjoyable 1.6, delightful 2.2,
charming 1.8, splendid 2.1, marvelous 2.2, awesome 2.3, magnificent 2.4, terrific 2.2, fabulous 2.3,
beautiful 2.1, gorgeous 2.2, remarkable 1.6, incredible 2.1, memorable 1.5, satisfying 1.6,
refreshing 1.5, promising 1.2, interesting 1.0, fascinating 1.6, useful 1.3, helpful 1.5,
reliable 1.4, worthwhile 1.4, exceptional 2.3, first rate 2.1, stunning 2.2, exciting 1.8, fun 1.7,
flawless 2.3, top notch 2.1, heartwarming 1.9, inspiring 1.9, adorable 1.9, rewarding 1.7,
bad -1.7, terrible -2.3, awful -2.2, horrible -2.4, dreadful -2.3, poor -1.6, disappointing -1.6,
mediocre -0.8, lousy -1.7, pathetic -2.1, disgusting -2.5, annoying -1.5, boring -1.4, dull -1.2,
useless -1.8, worthless -2.0, ridiculous -1.4, embarrassing -1.5, unpleasant -1.5, frustrating -1.6,
depressing -1.8, appalling -2.3, abysmal -2.4, atrocious -2.5, miserable -2.0, unacceptable -1.8,
shocking -1.4, weak -1.0, forgettable -0.9, tedious -1.3, painful -1.7, tiresome -1.2, ugly -1.6,
nasty -1.8, stupid -1.7, silly -0.6, confusing -1.0, strange -0.5, odd -0.4, uneven -0.6,
unbearable -2.1, a letdown -1.6, a shame -1.3, sad -1.6, hopeless -1.9, vile -2.3, rotten -1.9,
dismal -1.9, inferior -1.4, careless -1.3, messy -1.0, overrated -1.2, unfair -1.5, scary -1.2,
worrying -1.3, exhausting -1.2, irritating -1.5, dangerous -1.6, harmful -1.8, broken -1.3,
disastrous -2.3, underwhelming -1.1, laughable -1.4, a nuisance -1.3
""")

NEUTRAL_ADJECTIVES = _listed("""
ordinary, average, standard, typical, short, long, small, large, round, square, red, blue, grey,
brown, local, new, second hand, in the morning, upstairs, next door, on the left, the usual one,
two hours long, on the table, the same as before, about half full, still open, on Tuesday,
made of wood, near the station, in French, in the other room, the second one, mostly blue
""")


def _topic(name: str, nouns: str, adjectives: str) -> Topic:
    return Topic(name, _listed(nouns), _valued(adjectives))


TOPICS = (
    _topic(
        "film",
        "film, movie, plot, ending, acting, soundtrack, sequel, script, main actor, trailer, scene",
        """gripping 1.8, moving 1.6, hilarious 2.0, predictable -1.0, far too long -1.2, clever 1.6,
        badly acted -1.8, well acted 1.7, touching 1.7, pointless -1.7, unforgettable 2.1,
        full of cliches -1.3, thrilling 1.9, slow and empty -1.5, original 1.3, lifeless -1.5,
        a waste of two hours -2.0, pure magic 2.4, worth seeing 1.5, unwatchable -2.2, cheesy -0.8,
        entertaining 1.7, violent -1.2""",
    ),
    _topic(
        "phone",
        "phone, battery, screen, camera, laptop, keyboard, headset, tablet, printer, charger, speaker",
        """fast 1.2, sluggish -1.2, easy to use 1.5, always crashing -1.8, scratched -1.0, sturdy 1.1,
        overpriced -1.4, a bargain 1.5, faulty -1.6, crystal clear 1.6, dead after a week -1.9,
        well made 1.6, cheap and flimsy -1.5, handy 1.2, hard to set up -1.2, defective -1.8,
        powerful 1.3, unusable -2.0, elegant 1.6, worth the money 1.6, buggy -1.4, dim -0.7""",
    ),
    _topic(
        "food",
        "soup, dinner, breakfast, pasta, cake, coffee, curry, salad, bread, dessert, pizza, fish, menu",
        """delicious 2.2, tasty 1.7, bland -1.1, stale -1.4, burnt -1.4, fresh 1.3, cold and greasy -1.7,
        inedible -2.3, mouth watering 2.1, too salty -1.1, juicy 1.4, overcooked -1.2, flavorful 1.6,
        tasteless -1.4, divine 2.3, raw in the middle -1.7, cooked to perfection 2.2, watery -1.0,
        crisp 1.0, revolting -2.5, yummy 1.9, soggy -1.2, moldy -2.1""",
    ),
    _topic(
        "meeting",
        "meeting, presentation, project, report, interview, deadline, office, workshop, plan, budget",
        """productive 1.5, a waste of time -1.9, well organized 1.6, chaotic -1.3, endless -1.2,
        useful for everyone 1.5, stressful -1.5, constructive 1.4, badly prepared -1.5, tense -1.0,
        a big step forward 1.7, fruitless -1.3, encouraging 1.6, behind schedule -0.9, a success 1.9,
        a failure -2.0, clear 1.0, efficient 1.3, hostile -1.7, on track 0.9""",
    ),
    _topic(
        "trip",
        "trip, hotel, flight, beach, room, train ride, holiday, view, tour, campsite, cruise, museum",
        """relaxing 1.7, breathtaking 2.2, dirty -1.6, noisy -1.1, spotless 1.7, cramped -1.1,
        unforgettable 2.1, delayed again -1.2, cozy 1.6, a nightmare -2.4, peaceful 1.7, crowded -0.9,
        filthy -2.2, comfortable 1.5, full of bugs -2.1, spacious 1.2, paradise 2.5, too expensive -1.2,
        magical 2.2, run down -1.3, well worth it 1.7, badly planned -1.3""",
    ),
    _topic(
        "weather",
        "weather, morning, weekend, storm, evening, summer, winter, sunset, garden, afternoon, sky",
        """sunny 1.2, gloomy -1.2, glorious 2.2, freezing -1.0, mild 0.6, miserable and wet -1.9,
        bright 1.0, grey and dreary -1.4, warm 1.0, stifling -1.2, calm 1.0, ruined by rain -1.6,
        picture perfect 2.2, harsh -1.1, golden 1.3, depressing -1.8""",
    ),
    _topic(
        "service",
        "service, waiter, support line, delivery, staff, shop, repair, bank, website, refund, checkout",
        """friendly 1.7, rude -1.8, prompt 1.3, slow -0.9, attentive 1.6, incompetent -2.0,
        courteous 1.5, dishonest -2.1, first class 2.2, unhelpful -1.5, quick and polite 1.7,
        a rip off -2.0, professional 1.5, insulting -2.0, flexible 1.1, late again -1.2, generous 1.8,
        a scam -2.5, unprofessional -1.7, convenient 1.3""",
    ),
    _topic(
        "book",
        "book, novel, story, chapter, author, article, poem, biography, magazine, first page, hero",
        """gripping 1.8, well written 1.8, poorly written -1.7, impossible to put down 2.0, shallow -1.2,
        thoughtful 1.5, pretentious -1.3, witty 1.7, hard to follow -1.0, wise 1.6, preachy -1.1,
        rich and warm 1.9, bleak -1.2, a page turner 1.6, unreadable -2.0, insightful 1.7, trite -1.2,
        full of life 1.7, offensive -1.9""",
    ),
    _topic(
        "game",
        "game, match, team, level, season, final, coach, goalkeeper, race, tournament, crowd, league",
        """thrilling 1.9, one sided -0.7, a humiliation -2.2, well played 1.6, addictive 1.0, unfair -1.5,
        electric 1.8, a disgrace -2.2, heroic 2.0, boring to watch -1.5, challenging 0.7, rigged -1.9,
        a triumph 2.4, sloppy -1.2, spectacular 2.2, a bitter defeat -1.9, tons of fun 2.1""",
    ),
    _topic(
        "person",
        "neighbour, teacher, friend, doctor, new boss, colleague, sister, landlord, driver, singer",
        """kind 1.8, rude -1.8, generous 1.8, selfish -1.8, patient 1.3, cruel -2.4, honest 1.6,
        arrogant -1.7, caring 1.9, lazy -1.3, polite 1.4, mean -1.8, thoughtful 1.6, hostile -1.7,
        hilarious 2.0, loyal 1.7, aggressive -1.5, warm and gentle 2.0, dishonest -2.0, talented 1.8,
        clumsy -0.8, brave 1.7, a liar -2.2, a true friend 2.2, a bully -2.3, wonderful company 2.2,
        grumpy -1.2, cheerful 1.8, supportive 1.8, ungrateful -1.6, a hero 2.1, an idiot -2.1,
        clever 1.6, unkind -1.7, sweet 1.8, moody -1.0, reliable 1.4, unreliable -1.4""",
    ),
    _topic(
        "home",
        "flat, kitchen, sofa, bathroom, roof, rent, new house, heating, street, balcony, bed, lamp",
        """cozy 1.6, damp -1.2, bright 1.1, falling apart -1.7, comfortable 1.5, tiny and dark -1.2,
        safe 1.3, infested with mice -2.2, quiet 0.8, too expensive -1.2, stylish 1.4, shabby -1.2,
        homely 1.1, leaking again -1.4, just right 1.6, freezing at night -1.2""",
    ),
    _topic(
        "school",
        "lesson, exam, course, homework, lecture, class, essay, library, school play, seminar, grade",
        """easy 0.8, too hard -1.0, inspiring 1.9, a struggle -1.2, eye opening 1.5, unfair -1.5,
        well taught 1.7, impossible -1.2, engaging 1.6, badly explained -1.4, a joy 2.1, confusing -1.0,
        encouraging 1.6, a disaster -2.3""",
    ),
    _topic(
        "music",
        "concert, song, album, band, choir, piano, festival, singer, drummer, chorus, show, stage",
        """catchy 1.3, out of tune -1.3, beautiful 2.1, deafening -1.1, soulful 1.6, unlistenable -2.0,
        full of energy 1.7, flat -0.9, sensational 2.3, painful to hear -1.8, moving 1.6, repetitive -0.9,
        haunting 0.8, a delight 2.1, joyful 2.1, soulless -1.5""",
    ),
    _topic(
        "health",
        "operation, hospital, gym, new diet, nurse, treatment, clinic, dentist, medicine, checkup, run",
        """painless 1.2, painful -1.7, reassuring 1.5, frightening -1.7, gentle 1.4, effective 1.5,
        useless -1.8, a relief 1.6, exhausting -1.2, a success 1.9, risky -1.1, life saving 2.2,
        agony -2.4, healthy 1.5, harmful -1.8, invigorating 1.6""",
    ),
    _topic(
        "car",
        "car, bus, bicycle, engine, commute, parking, train, taxi, ferry, bridge, seat, garage",
        """smooth 1.1, unreliable -1.4, comfortable 1.5, always late -1.4, economical 1.0, a wreck -1.8,
        dangerous -1.6, a pleasure to drive 2.0, packed -0.6, on time 0.9, cheap to run 1.0,
        noisy -1.0, stuck again -1.3, a death trap -2.4, brand new 0.8""",
    ),
    _topic(
        "family",
        "wedding, party, birthday, baby, dog, reunion, gift, puppy, garden party, photo, surprise",
        """joyful 2.1, a mess -1.4, adorable 1.9, spoiled -0.9, full of laughter 2.1, tense -1.0,
        touching 1.7, cancelled -1.1, unforgettable 2.1, heartbreaking -2.0, a blast 2.0, precious 1.9,
        awkward -0.9, ruined -1.9, a dream come true 2.6""",
    ),
)

STANCES = (  # present, past, value
    ("love", "loved", 2.2),
    ("adore", "adored", 2.2),
    ("like", "liked", 1.4),
    ("enjoy", "enjoyed", 1.7),
    ("appreciate", "appreciated", 1.5),
    ("admire", "admired", 1.7),
    ("recommend", "recommended", 1.6),
    ("trust", "trusted", 1.3),
    ("treasure", "treasured", 2.0),
    ("praise", "praised", 1.7),
    ("welcome", "welcomed", 1.3),
    ("prefer", "preferred", 0.7),
    ("hate", "hated", -2.3),
    ("dislike", "disliked", -1.4),
    ("regret", "regretted", -1.5),
    ("despise", "despised", -2.4),
    ("loathe", "loathed", -2.4),
    ("distrust", "distrusted", -1.4),
    ("resent", "resented", -1.6),
    ("fear", "feared", -1.4),
    ("dread", "dreaded", -1.6),
    ("mourn", "mourned", -1.6),
    ("avoid", "avoided", -0.9),
)

MOVES = _valued("""
impressed 1.8, delighted 2.1, amazed 2.0, inspired 1.9, moved 1.4, amused 1.5, thrilled 2.2,
comforted 1.5, charmed 1.7, helped 1.3, cheered up 1.7, won over 1.5, entertained 1.6,
disappointed -1.7, bored -1.4, annoyed -1.5, angered -1.8, upset -1.7, insulted -1.9, confused -0.9,
frightened -1.6, disgusted -2.3, let down -1.6, depressed -1.8, hurt -1.8, worried -1.2,
irritated -1.4, shocked -1.1, exhausted -1.1, frustrated -1.6, horrified -2.2, cheated -2.0
""")

FEELINGS = _valued("""
happy 2.0, glad 1.7, thrilled 2.3, delighted 2.2, excited 1.8, proud 1.8, grateful 1.9, hopeful 1.5,
relieved 1.3, calm 1.0, content 1.3, optimistic 1.5, confident 1.5, cheerful 1.8, overjoyed 2.5,
pleased 1.6, satisfied 1.5, lucky 1.6, ecstatic 2.5, at peace 1.6, blessed 2.0, curious 0.6,
sad -1.7, angry -1.9, furious -2.3, upset -1.7, worried -1.2, anxious -1.3, lonely -1.7, tired -0.8,
disappointed -1.7, frustrated -1.6, heartbroken -2.4, ashamed -1.8, jealous -1.3, scared -1.5,
devastated -2.5, miserable -2.1, guilty -1.5, hopeless -2.0, bitter -1.5, stressed -1.4, nervous -0.9,
fed up -1.6, disgusted -2.3, betrayed -2.1, unhappy -1.7, annoyed -1.4, gloomy -1.4, depressed -2.0
""")

NOUNS = _valued("""
masterpiece 2.5, triumph 2.3, delight 2.1, treat 1.7, bargain 1.4, gem 2.0, success 1.9, joy 2.2,
blessing 2.0, pleasure 1.8, nice surprise 1.7, pleasant change 1.4, work of art 2.0, winner 1.8,
huge improvement 1.7, dream come true 2.5, breath of fresh air 1.7, good choice 1.5, relief 1.4,
disaster -2.3, nightmare -2.4, joke -1.4, mess -1.5, failure -2.0, disgrace -2.2, letdown -1.6,
waste of time -1.9, waste of money -1.9, scam -2.4, mistake -1.4, insult -1.9, disappointment -1.7,
catastrophe -2.5, shambles -1.7, problem -1.2, burden -1.3, tragedy -2.4, big step backwards -1.5,
bad idea -1.5, pain -1.6, fraud -2.3, total flop -1.8, bore -1.3, farce -1.5, shame -1.4, threat -1.6
""")

CLAIMS = _valued_lines("""
I would recommend this {noun} to anyone | 2.0
I would not recommend this {noun} to anyone | -1.7
{subject} is worth every penny | 1.9
{subject} is not worth the money | -1.5
I want my money back for this {noun} | -1.9
do not waste your money on this {noun} | -2.0
{subject} went beyond all my expectations | 2.0
{subject} fell short of what they promised | -1.5
{subject} is better than I expected | 1.4
{subject} is worse than last year | -1.4
{subject} has improved a lot | 1.5
{subject} keeps getting worse | -1.7
I could not be happier with the {noun} | 2.4
I could not be more disappointed with the {noun} | -2.2
{subject} made my day | 2.1
{subject} ruined my day | -2.1
I will never go back after that {noun} | -1.8
I can not wait for the next {noun} | 1.8
there is nothing to like about this {noun} | -1.9
there is a lot to like about this {noun} | 1.7
{subject} could have been better | -0.9
{subject} could have been worse | 0.2
I have seen better than this {noun} | -0.8
{subject} has a few small problems | -0.8
{subject} has one serious flaw | -1.3
{subject} did the job | 0.6
{subject} works as it should | 0.8
{subject} does not work at all | -1.7
I am still smiling about the {noun} | 2.0
I nearly cried over the {noun} | -1.3
nobody deserves a {noun} like that | -1.6
{subject} brings back happy memories | 1.9
{subject} gives me a headache | -1.4
{subject} makes me feel at home | 1.6
{subject} makes me sick | -2.0
thank you so much for the {noun} | 1.9
I am sick and tired of this {noun} | -2.0
I have no complaints about the {noun} | 1.1
I have nothing but complaints about the {noun} | -1.9
{subject} saved us a lot of trouble | 1.4
{subject} caused us a lot of trouble | -1.6
it is hard to find fault with the {noun} | 1.4
best {noun} I have ever had | 2.4
worst {noun} I have ever had | -2.4
I do not mind the {noun} | 0.3
I expected more from the {noun} | -1.1
{subject} could use some work | -0.7
{subject} is getting better every day | 1.6
""")

GOOD_EVENTS = _valued_lines("""
I got the job | 2.0
we won the final | 2.2
I passed the exam | 1.9
she said yes | 1.6
our baby was born healthy | 2.6
the test results came back clear | 1.8
they offered me a promotion | 1.9
{name} is coming home at last | 1.6
we finally bought our own house | 1.9
they gave us a free upgrade | 1.6
my {role} surprised me with flowers | 1.9
{name} recovered from the illness | 1.9
I made a lot of new friends | 1.9
they fixed it for free | 1.6
the sun came out just in time | 1.3
{name} won first prize | 2.1
my {role} got engaged | 1.7
I found my lost ring | 1.5
we laughed all evening | 2.0
they welcomed us with open arms | 1.9
I finished the marathon | 1.6
{name} forgave me | 1.3
the doctor gave us good news | 1.8
my {role} helped me move house | 1.3
we celebrated until midnight | 1.8
I got full marks | 2.0
they saved the old theatre | 1.6
the dog was rescued | 1.6
my {role} thanked me warmly | 1.7
{name} gave me a big hug | 1.9
the children sang for us | 1.4
I slept like a baby | 1.3
we made peace with the neighbours | 1.5
everyone clapped and cheered | 1.9
it was love at first sight | 2.1
""")

BAD_EVENTS = _valued_lines("""
I lost my job | -2.1
our dog died | -2.6
they cancelled our flight | -1.5
someone stole my bag | -2.1
I failed the exam | -1.9
{name} is in hospital again | -1.6
we lost the final | -1.5
my {role} lied to me | -2.0
the car broke down | -1.5
they refused to give a refund | -1.6
the kitchen was flooded | -1.6
{name} was badly hurt | -2.1
my {role} yelled at me | -1.8
they charged me twice | -1.4
the house burned down | -2.5
I missed the last train | -1.1
my {role} ignored me all week | -1.5
the package arrived broken | -1.5
there was a terrible accident | -2.3
{name} broke my heart | -2.2
we had to say goodbye to {name} | -1.5
I wasted the whole day | -1.5
they fired half of the team | -1.9
my {role} insulted my family | -2.1
the phone died again | -1.2
I cried all night | -1.9
the storm destroyed the garden | -1.8
they forgot my birthday | -1.5
{name} cheated on the test | -1.5
we got food poisoning | -2.0
I could not sleep from the pain | -1.8
they made fun of me | -1.7
my {role} passed away | -2.4
everything went wrong | -1.9
we are running out of money | -1.5
""")

FACTS = _lines("""
the {noun} is {adjective}
the {noun} was {adjective}
it takes {number} minutes to {place}
{name} lives near {place}
{name} bought {object} {time}
{name} put {object} next to {other}
we will talk about the {noun} {soon}
the train to {place} leaves at {number}
I left {object} on the kitchen table
there are {number} chairs in the room
my {role} works at {place}
I am going to {place} {soon}
{name} asked about the {noun} {time}
have you seen {object}
did you read about the {noun}
the {noun} starts at {number}
it is {number} past {number}
the meeting is on the second floor
turn left after {place}
I usually have tea at {number}
{name} and {name} met at {place}
the box contains {number} parts
they moved the {noun} to {place}
this is {object} from {place}
I will send you the address {soon}
my {role} has {number} cousins
you can find {object} at {place}
the {noun} costs {number} euros
we have {number} of them left
the shop is open until {number}
{name} is on the phone with my {role}
I wrote the {number} numbers down
the {noun} has {number} parts
please bring {object} {soon}
{name} told me about the {noun} {time}
we talked about the {noun} for {number} minutes
the road goes from {place} to the river
I am reading about the {noun}
she is wearing a grey coat
he parked the car behind {place}
the water is in the fridge
I have been to {place} before
there is a sign in front of {place}
{number} people came to {place} {time}
the form has {number} pages
we are painting the wall white
my {role} said it was {adjective}
the next {noun} is {soon}
can you pass me {object}
where did you put {object}
the {noun} belongs to {name}
it rained a little {time}
I changed the date of the {noun}
the windows face {place}
""")

TIMES = _listed("""
yesterday, today, last night, this morning, last week, on Monday, on Friday, in the afternoon,
after lunch, last summer, in October, two days ago, at the weekend, this evening, last month, tonight
""")
SOON = _listed("tomorrow, tonight, next week, on Thursday, after lunch, in an hour, in March, soon")
PLACES = _listed("""
the station, the library, the market, the river, the old church, the office, the harbour, Madrid,
the airport, the park, Chicago, the village, the post office, the bakery, Leeds, the stadium, the museum
""")
OBJECTS = _listed("""
the keys, a notebook, the blue folder, an umbrella, the map, a ticket, the receipt, a pencil, the bag,
a bottle of water, the ladder, a postcard, the suitcase, a box of paper, the form, the other glove
""")
NAMES = _listed("""
Anna, Tom, Maria, James, Peter, Sofia, David, Emma, Carlos, Laura, Omar, Nina, Paul, Grace, Victor,
Helen, Ahmed, Julia, Sam, Rita, Daniel, Priya, Lucas, Mei, Oscar, Claire, Ivan, Fatima, Ben, Yuki
""")
ROLES = _listed("""
neighbour, brother, sister, teacher, boss, cousin, uncle, aunt, friend, colleague, landlord, mother,
father, grandmother, roommate, doctor, manager, partner, daughter, son
""")
