// Atypia @VERSION@: classifies the figures of the open image as atypical or normal, and shows the result on them.
// QuPath 0.4 or later: Automate > Script editor, open this file, Run. For a whole project: Run for project.
//
// Figures are the selected objects; with nothing selected, all detections; without detections, all annotations that are points.
// Each gets the class of its call (below its own class, where it has one) and measurements that begin with `Atypia`.
// A position of a points annotation that holds several becomes a detection of its own. Research use only; not a medical device.
import groovy.json.JsonSlurper
import qupath.lib.objects.PathObjects
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

// ---- settings ----
def ATYPIA = @COMMAND@   // the command and its first arguments
def MODEL = null      // a model's folder; null: the one that ships
def CLASSES = []      // only figures of these classes, for instance ['Mitosis']; empty: of every class
def MPP = null        // µm/px, where the slide does not state it, for instance 0.25
def FOLDER = null     // where the files go; null: folder `atypia` of the project, or of the user's home without a project

// ---- nothing to change below ----
def CALLS = [normal: [86, 180, 233], atypical: [213, 94, 0], uncertain: [240, 228, 66], refused: [153, 153, 153]]

def folder = FOLDER ?: (getProject() == null ? buildFilePath(System.getProperty('user.home'), 'atypia')
                                             : buildFilePath(PROJECT_BASE_DIR, 'atypia'))
mkdirs(folder)

// 1. The slide's file and the figures.
def server = getCurrentServer()
def uri = server.getURIs().find { it != null && it.getScheme() == 'file' }
if (uri == null)
    throw new IllegalStateException('The open image is no file of this machine, so that Atypia cannot read it')
def slide = new File(uri).getPath()

@FIGURES@
def name = server.getMetadata().getName().replaceAll('[\\\\/:*?"<>|]', '_')
def points = buildFilePath(folder, name + '.geojson')
def calls = buildFilePath(folder, name + '.calls.geojson')
exportObjectsToGeoJson(figures, points, 'FEATURE_COLLECTION')

// 2. Atypia. QuPath counts positions from the corner of the scanned area, in both files. Classes were chosen above.
def command = ATYPIA + ['predict', slide, '--points', points, '--origin', 'bounds', '--class', 'all', '--out', calls]
if (MODEL != null)
    command += ['--model', MODEL]
if (MPP != null)
    command += ['--mpp', String.valueOf(MPP)]
println 'Atypia: ' + command.join(' ')
new File(calls).delete()   // so that an older file is never taken for this answer
def process
try {
    process = new ProcessBuilder(command.collect { String.valueOf(it) }).redirectErrorStream(true).start()
} catch (IOException e) {
    throw new IllegalStateException('Atypia was not found; set ATYPIA at the top of this script to its full path: ' + e.getMessage())
}
process.getOutputStream().close()
process.getInputStream().eachLine('UTF-8') { line -> println line }
def code = process.waitFor()
if (!new File(calls).isFile())   // a case whose figures are all refused ends with code 1, and has calls all the same
    throw new IllegalStateException('Atypia ended with code ' + code + '; its message is above')

// 3. The calls, matched by id.
def byId = figures.collectEntries { [(it.getID().toString().toLowerCase()): it] }
def counts = [:].withDefault { 0 }
def added = []
new JsonSlurper().parse(new File(calls), 'UTF-8').features.each { feature ->
    def call = feature.properties.classification.name
    def colour = getColorRGB(*CALLS[call])
    def figure = byId[String.valueOf(feature.id).toLowerCase()]
    if (figure == null) {
        // One of several positions of a points annotation: it has no object of its own yet.
        def at = feature.geometry.coordinates
        def roi = ROIs.createPointsROI(at[0] as double, at[1] as double, ImagePlane.getDefaultPlane())
        figure = PathObjects.createDetectionObject(roi)
        figure.setName(feature.properties.name)
        added << figure
    }
    // The class that it had, without the call of an earlier run.
    def own = figure.getPathClass() == null ? [] : figure.getPathClass().toString().split(': ') as List
    own = own.findAll { !CALLS.containsKey(it) }
    figure.setPathClass(getPathClass((own + [call]).join(': '), colour))
    def list = figure.getMeasurementList()
    feature.properties.measurements.each { key, value -> list.put('Atypia ' + key, value as double) }
    list.close()
    counts[call]++
}
if (!added.isEmpty())
    addObjects(added)
fireHierarchyUpdate()
def total = counts.values().sum() ?: 0
println 'Atypia: ' + counted(total, 'figure', 'figures') + ': ' + CALLS.keySet().collect { counts[it] + ' ' + it }.join(', ')
if (!added.isEmpty())
    println 'Atypia: ' + counted(added.size(), 'of them is a new detection at a position of a points annotation',
                                 'of them are new detections at positions of points annotations')
def silent = figures.size() - (total - added.size())
if (added.isEmpty() && silent > 0)
    println 'Atypia: ' + counted(silent, 'object was not taken as a figure (a region, or a position beyond the slide)',
                                 'objects were not taken as figures (regions, or positions beyond the slide)') + '; see the lines above'
