"""In which words do we speak to people? English and French, sentence by sentence.

A name in braces is filled in, escaped. `test_server_pages` checks that both languages have the same
sentences and the same names in them.
"""

from collections.abc import Mapping
from typing import Literal

from bidder.privacy import is_sensitive

Language = Literal["en", "fr"]
LANGUAGES: Mapping[Language, str] = {"en": "English", "fr": "Français"}

EN: Mapping[str, str] = {
    "why.title": "Why this ad?",
    "why.unknown": "This link is not one of ours, or it is incomplete. To see why you got an ad, "
    "open the link in the corner of the ad itself.",
    "why.from": "The ad you saw is from {advertiser}.",
    "why.pays": "{advertiser} decides what it shows and pays for it.",
    "why.how": "How it was chosen",
    "why.context": "Anybody may get this ad. It was chosen for the place: the subject of the page "
    "or app, the kind of device, the language, the country and the time of day. Where you "
    "allowed it, how many ads you have seen and what interests you counted as well.",
    "why.audience": "{advertiser} asked for this ad to be shown to people who have had to do with "
    "it before. That can be a visit, a basket, a purchase, or a newsletter, for example. The "
    "page or app you are on is not told which, and this page does not show it to strangers.",
    "why.mine": "You are signed in, so we can say more. {advertiser} asked for people like this:",
    "why.also": "The place also counts: the subject of the page or app, the kind of device, the "
    "language and the time of day. And so does how many ads you have already seen.",
    "why.nobody": "We keep no name, email address or telephone number in readable form.",
    "why.do": "What you can do",
    "why.me": "See, change or erase what we know of you",
    "why.notme": "Only you can see that: it needs the browser we know you by, or a one-time code.",
    "kind.basket": "those who left something in a basket",
    "kind.visit": "those who visited its site or app",
    "kind.purchase": "those who bought something before",
    "kind.store": "those who came to one of its shops",
    "kind.contact": "those who get its newsletter or messages, or once did",
    "kind.alike": "those whose visits resemble those of its customers",
    "kind.other": "those it counts among its customers or visitors",
    "group.basket": "a basket left",
    "group.visit": "visits",
    "group.purchase": "purchases",
    "group.store": "visits to a shop",
    "group.contact": "newsletter and messages",
    "group.alike": "people alike",
    "group.other": "other",
    "me.title": "My data",
    "me.lead": "What we know of you to choose ads, and what you can change. A change counts from "
    "the next ad on.",
    "me.stranger": "We do not know this browser",
    "me.stranger.lead": "Without our cookie or a one-time code we cannot tell who you are, and "
    "show nothing. If you refused cookies, that is as it should be: then you only get ads chosen "
    "for the page.",
    "me.code": "One-time code",
    "me.code.hint": "Twelve letters and figures, such as ABCD-EFGH-JKLM. You get one from the "
    "company whose ad you saw, or from us, once they know that it is you who asks.",
    "me.code.go": "Show my data",
    "me.code.wrong": "This code is not known. It may have been used already, or be too old: codes "
    "last {hours}.",
    "me.leave": "Sign out",
    "state.title": "Personal ads",
    "state.on": "On: ads may be chosen by what is written below.",
    "state.paused": "Paused until {date}: until then it is as if we did not know you.",
    "state.out": "Off: you objected. We keep nothing of you but this wish and the names we need "
    "to know that it is yours.",
    "state.withdrawn": "Off: you withdrew your consent on {date}. We keep nothing of you but "
    "that, until you consent again on that site.",
    "state.pause": "Pause for",
    "state.days": "{days} days",
    "state.pause.go": "Pause",
    "state.resume": "End the pause",
    "state.object": "Turn off personal ads",
    "state.object.hint": "We stop choosing ads by what we know of you, and forget what you did. "
    "You will still see ads, chosen for the page.",
    "state.allow": "Turn personal ads on again",
    "interests.title": "My interests",
    "interests.lead": "Ticked: ads about this may come more often. Not ticked: we take it off, "
    "and do not guess it again.",
    "interests.go": "Save my interests",
    "interests.none": "Subjects of health, politics, society and religion are not offered here.",
    "fewer.title": "Fewer ads from",
    "fewer.lead": "Ticked: this company shows you far fewer ads.",
    "fewer.go": "Save",
    "fewer.none": "We know of no company that could show you ads now.",
    "known.title": "What we know",
    "known.none": "Nothing about what you did.",
    "known.first": "Known since",
    "known.visit": "Last visit",
    "known.order": "Last purchase",
    "known.orders": "Purchases",
    "known.spent": "Spent in all",
    "known.stage": "You count as",
    "known.basket": "Basket at {advertiser}",
    "known.basket.one": "{products} product, {value}, {date}",
    "known.basket.is": "{products} products, {value}, {date}",
    "known.groups": "Groups you belong to",
    "known.groups.is": "{label} (“{name}”), {date}",
    "known.names": "Names we know you by",
    "known.ads": "Ads in the last 30 days",
    "known.ads.is": "{advertiser}: {count}, the last on {date}",
    "known.consent": "Your consent",
    "known.consent.is": "given on {source}, {date}",
    "known.noconsent": "no proof on record",
    "known.until": "Forgotten by itself",
    "copy.title": "A copy of everything",
    "copy.lead": "All of it in one file (JSON): what you see here, every ad, and every line of "
    "our log that is about you.",
    "copy.go": "Download",
    "erase.title": "Erase everything",
    "erase.lead": "We delete all of it and cannot bring it back. What is left is a mark without a "
    "name, so that nobody loads you again by mistake.",
    "erase.sure": "Yes, erase all that you know of me",
    "erase.go": "Erase",
    "erase.unsure": "Nothing was erased: tick the box first, please.",
    "erased.title": "Erased",
    "erased.lead": "We have deleted what we knew of you. For us you are a stranger now. "
    "Reference, should you write to us: {reference}.",
    "done.interests": "Your interests are saved.",
    "done.fewer": "Saved.",
    "done.pause": "Personal ads are paused.",
    "done.resume": "The pause is over.",
    "done.object": "Personal ads are off.",
    "done.allow": "Personal ads are on.",
    "done.leave": "You are signed out.",
    "error.expired": "The page was open for too long, or the form came from somewhere else. "
    "Nothing was changed. Please try again.",
    "error.busy": "Too much is going on just now. Please try again in a minute.",
    "error.title": "Not now",
    "foot.who": "This page is run by {company}.",
    "foot.contact": "Questions, or another wish: {contact}",
    "foot.cnil": "You may complain to your data protection authority, in France the CNIL.",
    "nav.language": "Language",
    "nav.skip": "To the content",
}

FR: Mapping[str, str] = {
    "why.title": "Pourquoi cette publicité\u202f?",
    "why.unknown": "Ce lien n’est pas l’un des nôtres, ou il est incomplet. Pour savoir pourquoi "
    "vous avez reçu une publicité, ouvrez le lien dans le coin de la publicité elle-même.",
    "why.from": "La publicité que vous avez vue est de {advertiser}.",
    "why.pays": "{advertiser} décide de ce qu’elle montre et la paie.",
    "why.how": "Comment elle a été choisie",
    "why.context": "Tout le monde peut recevoir cette publicité. Elle a été choisie pour "
    "l’endroit\u00a0: le sujet de la page ou de l’application, le type d’appareil, la langue, le "
    "pays et l’heure. Là où vous l’avez permis, le nombre de publicités que vous avez vues et ce "
    "qui vous intéresse ont compté aussi.",
    "why.audience": "{advertiser} a demandé que cette publicité soit montrée à des personnes qui "
    "ont déjà eu affaire à elle. Ce peut être une visite, un panier, un achat ou une lettre "
    "d’information, par exemple. La page ou l’application où vous êtes ne sait pas ce que c’est, "
    "et cette page ne le montre pas aux inconnus.",
    "why.mine": "Cette page est ouverte pour vous, nous pouvons donc en dire plus. "
    "{advertiser} voulait s’adresser à ces personnes\u00a0:",
    "why.also": "L’endroit compte aussi\u00a0: le sujet de la page ou de l’application, le type "
    "d’appareil, la langue et l’heure. De même que le nombre de publicités que vous avez déjà "
    "vues.",
    "why.nobody": "Nous ne gardons ni nom, ni adresse électronique, ni numéro de téléphone sous "
    "une forme lisible.",
    "why.do": "Ce que vous pouvez faire",
    "why.me": "Voir, changer ou effacer ce que nous savons de vous",
    "why.notme": "Vous seul pouvez le voir\u00a0: il faut le navigateur sous lequel nous vous "
    "connaissons, ou un code à usage unique.",
    "kind.basket": "celles qui ont laissé un article dans un panier",
    "kind.visit": "celles qui ont visité son site ou son application",
    "kind.purchase": "celles qui ont déjà acheté",
    "kind.store": "celles qui sont venues dans l’un de ses magasins",
    "kind.contact": "celles qui reçoivent ou ont reçu sa lettre d’information ou ses messages",
    "kind.alike": "celles dont les visites ressemblent à celles de ses clients",
    "kind.other": "celles qu’elle compte parmi ses clients ou visiteurs",
    "group.basket": "panier laissé",
    "group.visit": "visites",
    "group.purchase": "achats",
    "group.store": "visites en magasin",
    "group.contact": "lettre d’information et messages",
    "group.alike": "personnes semblables",
    "group.other": "autre",
    "me.title": "Mes données",
    "me.lead": "Ce que nous savons de vous pour choisir des publicités, et ce que vous pouvez "
    "changer. Un changement compte dès la publicité suivante.",
    "me.stranger": "Nous ne connaissons pas ce navigateur",
    "me.stranger.lead": "Sans notre cookie ou un code à usage unique, nous ne savons pas qui vous "
    "êtes et ne montrons rien. Si vous avez refusé les cookies, c’est normal\u00a0: vous ne "
    "recevez alors que des publicités choisies pour la page.",
    "me.code": "Code à usage unique",
    "me.code.hint": "Douze lettres et chiffres, comme ABCD-EFGH-JKLM. Vous le recevez de "
    "l’entreprise dont vous avez vu la publicité, ou de nous, une fois établi que c’est bien "
    "vous qui le demandez.",
    "me.code.go": "Voir mes données",
    "me.code.wrong": "Ce code n’est pas connu. Il a peut-être déjà servi, ou il est trop "
    "ancien\u00a0: un code est valable {hours}.",
    "me.leave": "Refermer la page",
    "state.title": "Publicité personnalisée",
    "state.on": "Activée\u00a0: les publicités peuvent être choisies d’après ce qui est écrit "
    "plus bas.",
    "state.paused": "En pause jusqu’au {date}\u00a0: d’ici là, c’est comme si nous ne vous "
    "connaissions pas.",
    "state.out": "Désactivée, comme vous l’avez demandé. Nous ne gardons de vous que ce souhait, "
    "et les noms qu’il faut pour savoir que c’est le vôtre.",
    "state.withdrawn": "Désactivée\u00a0: vous avez retiré votre consentement le {date}. Nous ne "
    "gardons de vous que cela, jusqu’à ce que vous consentiez à nouveau sur ce site.",
    "state.pause": "Mettre en pause pendant",
    "state.days": "{days} jours",
    "state.pause.go": "Mettre en pause",
    "state.resume": "Terminer la pause",
    "state.object": "Désactiver la publicité personnalisée",
    "state.object.hint": "Nous cessons de choisir des publicités d’après ce que nous savons de "
    "vous, et oublions ce que vous avez fait. Vous verrez encore des publicités, choisies pour "
    "la page.",
    "state.allow": "Réactiver la publicité personnalisée",
    "interests.title": "Mes centres d’intérêt",
    "interests.lead": "Coché\u00a0: des publicités à ce sujet peuvent venir plus souvent. Non "
    "coché\u00a0: nous l’enlevons, et ne le devinons plus.",
    "interests.go": "Enregistrer mes centres d’intérêt",
    "interests.none": "Les sujets de santé, de politique, de société et de religion ne sont pas "
    "proposés ici.",
    "fewer.title": "Moins de publicités de",
    "fewer.lead": "Coché\u00a0: cette entreprise vous montre bien moins de publicités.",
    "fewer.go": "Enregistrer",
    "fewer.none": "Nous ne connaissons aucune entreprise qui pourrait vous montrer des publicités "
    "en ce moment.",
    "known.title": "Ce que nous savons",
    "known.none": "Rien de ce que vous avez fait.",
    "known.first": "Connu depuis le",
    "known.visit": "Dernière visite",
    "known.order": "Dernier achat",
    "known.orders": "Achats",
    "known.spent": "Dépensé en tout",
    "known.stage": "Vous comptez comme",
    "known.basket": "Panier chez {advertiser}",
    "known.basket.one": "{products} article, {value}, {date}",
    "known.basket.is": "{products} articles, {value}, {date}",
    "known.groups": "Groupes dont vous faites partie",
    "known.groups.is": "{label} («\u00a0{name}\u00a0»), {date}",
    "known.names": "Noms sous lesquels nous vous connaissons",
    "known.ads": "Publicités des 30 derniers jours",
    "known.ads.is": "{advertiser}\u00a0: {count}, la dernière le {date}",
    "known.consent": "Votre consentement",
    "known.consent.is": "donné sur {source}, le {date}",
    "known.noconsent": "aucune preuve enregistrée",
    "known.until": "Oublié de lui-même le",
    "copy.title": "Une copie de tout",
    "copy.lead": "Le tout dans un fichier (JSON)\u00a0: ce que vous voyez ici, chaque publicité, "
    "et chaque ligne de notre journal qui vous concerne.",
    "copy.go": "Télécharger",
    "erase.title": "Tout effacer",
    "erase.lead": "Nous supprimons tout, sans retour possible. Il ne reste qu’une marque sans "
    "nom, pour que personne ne vous recharge par erreur.",
    "erase.sure": "Oui, effacez tout ce que vous savez de moi",
    "erase.go": "Effacer",
    "erase.unsure": "Rien n’a été effacé\u00a0: cochez d’abord la case, s’il vous plaît.",
    "erased.title": "C’est effacé",
    "erased.lead": "Nous avons supprimé ce que nous savions de vous et ne vous connaissons plus. "
    "Référence, si vous nous écrivez\u00a0: {reference}.",
    "done.interests": "Vos centres d’intérêt sont enregistrés.",
    "done.fewer": "C’est enregistré.",
    "done.pause": "La publicité personnalisée est en pause.",
    "done.resume": "La pause est terminée.",
    "done.object": "La publicité personnalisée est désactivée.",
    "done.allow": "La publicité personnalisée est activée.",
    "done.leave": "La page est refermée.",
    "error.expired": "La page est restée ouverte trop longtemps, ou le formulaire venait "
    "d’ailleurs. Rien n’a été changé. Veuillez réessayer.",
    "error.busy": "Il y a trop à faire en ce moment. Veuillez réessayer dans une minute.",
    "error.title": "Pas maintenant",
    "foot.who": "Cette page est tenue par {company}.",
    "foot.contact": "Une question, un autre souhait\u00a0: {contact}",
    "foot.cnil": "Vous pouvez adresser une réclamation à votre autorité de protection des "
    "données, en France la CNIL.",
    "nav.language": "Langue",
    "nav.skip": "Aller au contenu",
}

WORDS: Mapping[Language, Mapping[str, str]] = {"en": EN, "fr": FR}

_CATEGORIES: Mapping[str, tuple[str, str]] = {
    "IAB1": ("Arts and entertainment", "Arts et divertissement"),
    "IAB2": ("Cars", "Automobile"),
    "IAB3": ("Business", "Entreprise"),
    "IAB4": ("Work and careers", "Emploi et carrière"),
    "IAB5": ("Education", "Éducation"),
    "IAB6": ("Family and children", "Famille et enfants"),
    "IAB7": ("Health and fitness", "Santé et forme"),
    "IAB8": ("Food and drink", "Cuisine et boissons"),
    "IAB9": ("Hobbies", "Loisirs"),
    "IAB10": ("Home and garden", "Maison et jardin"),
    "IAB11": ("Law, government and politics", "Droit, État et politique"),
    "IAB12": ("News", "Actualités"),
    "IAB13": ("Personal finance", "Finances personnelles"),
    "IAB14": ("Society", "Société"),
    "IAB15": ("Science", "Sciences"),
    "IAB16": ("Pets", "Animaux de compagnie"),
    "IAB17": ("Sport", "Sport"),
    "IAB18": ("Style and fashion", "Mode et style"),
    "IAB19": ("Technology", "Technologie"),
    "IAB20": ("Travel", "Voyages"),
    "IAB21": ("Housing", "Immobilier"),
    "IAB22": ("Shopping", "Achats"),
    "IAB23": ("Religion and spirituality", "Religion et spiritualité"),
}
"""First tier of the IAB Content Taxonomy 1.0."""
OFFERED = tuple(code for code in _CATEGORIES if not is_sensitive(code))
"""What we ask for. Others that are held nevertheless can be taken off."""

_STAGES: Mapping[str, tuple[str, str]] = {
    "prospect": ("somebody who may be interested", "quelqu’un que cela peut intéresser"),
    "visitor": ("a visitor", "visiteur"),
    "new": ("a new customer", "nouveau client"),
    "active": ("a customer", "client"),
    "lapsing": ("a customer not seen for a while", "client absent depuis un moment"),
    "lapsed": ("a former customer", "ancien client"),
    "won-back": ("a customer who came back", "client revenu"),
}


def chosen(accept: str) -> Language:
    """The language that `Accept-Language` likes best; English if it likes neither."""
    best: tuple[float, Language] = (0.0, "en")
    for part in accept.lower().split(",")[:20]:
        tag, _, quality = part.strip().partition(";")
        weight = _weight(quality)
        name = tag.partition("-")[0].strip()
        for language in LANGUAGES:
            if name == language and weight > best[0]:
                best = (weight, language)
    return best[1]


def category(code: str, language: Language) -> str:
    """What a content category is called; itself where we have no name."""
    family, dash, _ = code.partition("-")
    names = _CATEGORIES.get(family)
    if names is None:
        return code
    name = names[language == "fr"]
    return f"{name} ({code})" if dash else name


def stage(code: str, language: Language) -> str:
    """What a lifecycle stage is called."""
    names = _STAGES.get(code)
    return names[language == "fr"] if names is not None else code


def _weight(quality: str) -> float:
    name, _, value = quality.replace(" ", "").partition("=")
    if not name:
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0) if name == "q" else 0.0
    except ValueError:
        return 0.0
